-- Format 1 of the embedded store. Bodies are JSON as gpulock-core writes it.

-- What a step writes, side by side: a pool's latest events, its leases, and the pool itself.
-- In one tree they mostly share one page, and a step writes no more than that. The events
-- come first, because a page that is full is split in favour of what comes last.
CREATE TABLE entry (
    pool TEXT    NOT NULL,
    kind INTEGER NOT NULL, -- 0 an event, 1 a lease, 2 the pool itself
    id   ANY     NOT NULL, -- the number of the event, the lease id, or ''
    -- Of the pool itself alone: the versions of the two parts of its record, and how many
    -- wait, so that nobody has to count them.
    lease_version INTEGER,
    queue_version INTEGER,
    queue_len     INTEGER,
    body TEXT    NOT NULL, -- the event, the lease, or the ledger
    PRIMARY KEY (pool, kind, id)
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

-- The store's clock: the time since boot of this boot plus this many microseconds.
CREATE TABLE clock (
    boot_id TEXT    NOT NULL PRIMARY KEY,
    offset  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
