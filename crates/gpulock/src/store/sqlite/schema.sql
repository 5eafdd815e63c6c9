-- Format 1 of the embedded store. Bodies are JSON as gpulock-core writes it. SQLite keeps
-- these statements and reads them at every start, so what they mean stands outside of them.

-- What a step writes, side by side: a pool's latest events, its leases, and the pool itself.
-- In one tree they mostly share one page, and a step writes no more than that. The events
-- come first, because a page that is full is split in favour of what comes last.
--
--   kind 0  an event:         id is what sorts it
--   kind 1  a lease:          id is the lease id
--   kind 2  the pool itself:  id is '', the body is its ledger; it alone has the versions
--                             of the two parts of its record, and how many wait, so that
--                             nobody has to count them
CREATE TABLE entry (
    pool TEXT NOT NULL,
    kind INTEGER NOT NULL,
    id ANY NOT NULL,
    lease_version INTEGER,
    queue_version INTEGER,
    queue_len INTEGER,
    body TEXT NOT NULL,
    PRIMARY KEY (pool, kind, id)
) STRICT, WITHOUT ROWID;

-- The rowid is the arrival number: SQLite gives out one more than the largest in use. The
-- rank is 0 for those who go first, and seen_at is in microseconds since the Unix epoch.
CREATE TABLE waiter (
    arrival INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    lease_id TEXT NOT NULL,
    lane TEXT NOT NULL,
    rank INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (pool, lease_id)
) STRICT;

-- The order of every lane, from which the look-ahead window is read.
CREATE INDEX waiter_order ON waiter (pool, lane, rank, arrival);

-- The store's clock: the time since boot of this boot plus this many microseconds.
CREATE TABLE clock (
    boot_id TEXT NOT NULL PRIMARY KEY,
    offset INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
