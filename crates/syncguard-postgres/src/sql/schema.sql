-- Creates what is missing of the tables and adds the columns that the TypeScript SyncGuard does not
-- know. It can be run again and again, and by many at once: one does the work, the others wait and
-- find it done.
--
-- In:  nothing
-- Out: nothing
--
-- To be run as one transaction, as PostgreSQL does with a text of several statements.
SELECT pg_advisory_xact_lock(hashtext('syncguard schema'));

-- A row for each key that is held, was held until its expiry, or belongs to an abandoned id. Rows
-- come, change and go all the time: half of each page is left free, and dead rows are cleared away by
-- their number, whatever their share. An owner counts only where `owner_lock_id` is the `lock_id`,
-- because a client that does not know the two columns leaves them as they were.
CREATE TABLE IF NOT EXISTS {locks} (
    key text PRIMARY KEY,
    lock_id text NOT NULL,
    expires_at_ms bigint NOT NULL,
    acquired_at_ms bigint NOT NULL,
    fence text NOT NULL,
    user_key text NOT NULL,
    owner text,
    owner_lock_id text
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_cost_delay = 0
);

ALTER TABLE {locks}
    ADD COLUMN IF NOT EXISTS owner text,
    ADD COLUMN IF NOT EXISTS owner_lock_id text;

-- An id holds one key at the most. What is abandoned stays abandoned by this index.
CREATE UNIQUE INDEX IF NOT EXISTS {locks_lock_id} ON {locks} (lock_id);

CREATE INDEX IF NOT EXISTS {locks_expires} ON {locks} (expires_at_ms);

-- A row for each key that was ever granted, for ever: its fence must never repeat. Only the number
-- changes, which no index holds, so with room in its page a row is rewritten in place.
CREATE TABLE IF NOT EXISTS {counters} (
    fence_key text PRIMARY KEY,
    fence bigint NOT NULL DEFAULT 0,
    key_debug text
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
