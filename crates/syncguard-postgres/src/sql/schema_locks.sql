-- Creates the lock table, with all its columns.
--
-- In:  nothing
-- Out: nothing
--
-- It has a row for each key that is held or was held until its expiry, and for each abandoned id. Rows are
-- inserted, changed and deleted all the time. Therefore half of each page is left free, and dead rows are
-- removed once they reach a number, whatever their share. An owner counts only if `owner_lock_id` equals
-- `lock_id`, because a client that does not know the two columns leaves them unchanged.
--
-- In shared mode, the row of a key is its head, and `shared_id` equals `lock_id`. The columns `permits`,
-- `holders`, `announced_by` and `announced_until_ms` count only then, for the same reason. Each holder has a
-- row of its own, whose key is too long to be the key of any user. It names the row of the head in `head_key`.
CREATE TABLE {if_not_exists} {locks} (
    key text PRIMARY KEY,
    lock_id text NOT NULL,
    expires_at_ms bigint NOT NULL,
    acquired_at_ms bigint NOT NULL,
    fence text NOT NULL,
    user_key text NOT NULL,
    owner text,
    owner_lock_id text,
    shared_id text,
    permits bigint,
    holders jsonb,
    announced_by text,
    announced_until_ms bigint,
    head_key text
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_cost_delay = 0
);

-- An id holds at most one key. By this index, an abandoned id stays abandoned.
CREATE UNIQUE INDEX {if_not_exists} {locks_lock_id} ON {locks} (lock_id);

CREATE INDEX {if_not_exists} {locks_expires} ON {locks} (expires_at_ms);
