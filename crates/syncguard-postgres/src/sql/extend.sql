-- Sets the expiry of a live grant to now plus the ttl, in either mode.
--
-- In:  $1 lock id, $2 ttl in ms, $3 grace in ms
-- Out: one row: own_transaction; expires_at_ms, NULL if the grant is not live
--
-- The advisory lock is that of the key in the row of the id, whatever key the caller names. It excludes a
-- client that found the grant expired and is about to upsert without checking again. A shared grant has no row
-- that `extended` changes; a function extends it (see `schema_extend.sql`).
WITH turn AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtext(locks.key))
    FROM {locks} AS locks
    WHERE {own_transaction} AND locks.lock_id = $1 AND {is_exclusive}
),
clock AS MATERIALIZED (
    -- This selects from `turn`, so that the clock is read after the wait for the advisory lock.
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms FROM turn
),
extended AS (
    UPDATE {locks} AS locks
    SET expires_at_ms = clock.now_ms + $2
    FROM clock
    WHERE locks.lock_id = $1 AND locks.expires_at_ms > clock.now_ms - $3
    RETURNING locks.expires_at_ms
)
SELECT
    {own_transaction} AS own_transaction,
    coalesce((SELECT expires_at_ms FROM extended), {extend_shared}) AS expires_at_ms
