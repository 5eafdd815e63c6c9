-- Format 1 of the embedded store. Bodies are JSON as gpulock-core writes it.

-- One row for each pool: its ledger, the versions of the two parts of its record, and how
-- many wait, so that nobody has to count them.
CREATE TABLE pool (
    name          TEXT    NOT NULL PRIMARY KEY,
    lease_version INTEGER NOT NULL,
    queue_version INTEGER NOT NULL,
    queue_len     INTEGER NOT NULL,
    ledger        TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    pool     TEXT NOT NULL,
    lease_id TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (pool, lease_id)
) STRICT, WITHOUT ROWID;

-- The rowid is the arrival number: SQLite gives out one more than the largest in use.
CREATE TABLE waiter (
    arrival  INTEGER PRIMARY KEY,
    pool     TEXT    NOT NULL,
    lease_id TEXT    NOT NULL,
    lane     TEXT    NOT NULL,
    rank     INTEGER NOT NULL, -- 0 goes first
    seen_at  INTEGER NOT NULL, -- microseconds since the Unix epoch
    body     TEXT    NOT NULL,
    UNIQUE (pool, lease_id)
) STRICT;

-- The order of every lane, from which the look-ahead window is read.
CREATE INDEX waiter_order ON waiter (pool, lane, rank, arrival);

CREATE TABLE event (
    seq  INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    task TEXT,
    body TEXT NOT NULL
) STRICT;

-- The store's clock: the time since boot of this boot plus this many microseconds.
CREATE TABLE clock (
    boot_id TEXT    NOT NULL PRIMARY KEY,
    offset  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
