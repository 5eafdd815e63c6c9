-- What is remembered of tasks. It came after format 1, and a program that knows nothing of it
-- goes on using the file: so it is made when it is first written to.

-- Times are in microseconds since the Unix epoch, the body is the last sign of life as JSON.
CREATE TABLE IF NOT EXISTS task (
    pool TEXT NOT NULL,
    task_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (pool, task_id)
) STRICT, WITHOUT ROWID;

-- Who has been silent longest.
CREATE INDEX IF NOT EXISTS task_order ON task (pool, updated_at);
