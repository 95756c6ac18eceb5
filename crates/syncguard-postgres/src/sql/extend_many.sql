-- Sets the expiry of live grants to now plus the ttl of each, in either mode, without waiting for other clients.
--
-- In:  $1 lock ids, without duplicates, $2 their ttls in ms, $3 grace in ms
-- Out: a row for each lock id, in their order: own_transaction; expires_at_ms, NULL if the grant is not live or
--      is busy; busy: another client is working on the key or the row, and nothing was changed
--
-- The advisory locks are those of `extend`; here, too, each expiry is written under the lock of its key. The
-- advisory locks and the row locks are tried, not waited for. A grant that another client has locked is left to
-- `extend`, which waits. Waiting here would let one key delay all others of the batch, and two clients that
-- wait for each other's locks would deadlock. A client that never waits cannot be part of a deadlock, in
-- whatever order it takes its locks. Shared grants are extended by a function, under the same rules.
WITH asked AS MATERIALIZED (
    SELECT asked.lock_id, asked.ttl_ms, asked.position
    FROM unnest($1::text[], $2::bigint[])
        WITH ORDINALITY AS asked (lock_id, ttl_ms, position)
),
found AS MATERIALIZED (
    -- In the column list, the function is evaluated only for the rows that are found.
    SELECT
        locks.lock_id,
        asked.ttl_ms,
        {head_key} AS head_key,
        pg_try_advisory_xact_lock(hashtext(coalesce({head_key}, locks.key))) AS taken
    FROM asked
    JOIN {locks} AS locks ON locks.lock_id = asked.lock_id
    WHERE {own_transaction} AND {is_not_head}
),
turn AS MATERIALIZED (
    SELECT found.lock_id, found.ttl_ms
    FROM found
    JOIN {locks} AS locks ON locks.lock_id = found.lock_id
    WHERE found.taken AND found.head_key IS NULL
    FOR NO KEY UPDATE OF locks SKIP LOCKED
),
clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
extended AS (
    UPDATE {locks} AS locks
    SET expires_at_ms = clock.now_ms + turn.ttl_ms
    FROM turn, clock
    WHERE locks.lock_id = turn.lock_id AND locks.expires_at_ms > clock.now_ms - $3
    RETURNING locks.lock_id, locks.expires_at_ms
),
shared AS MATERIALIZED (
    SELECT found.lock_id, {extend_shared_now} AS expires_at_ms
    FROM found
    WHERE found.taken AND found.head_key IS NOT NULL
)
SELECT
    {own_transaction} AS own_transaction,
    coalesce(extended.expires_at_ms, nullif(shared.expires_at_ms, 0)) AS expires_at_ms,
    CASE
        WHEN found.lock_id IS NULL THEN false
        WHEN found.head_key IS NULL THEN turn.lock_id IS NULL
        ELSE coalesce(shared.expires_at_ms = 0, NOT found.taken)
    END AS busy
FROM asked
LEFT JOIN found ON found.lock_id = asked.lock_id
LEFT JOIN turn ON turn.lock_id = asked.lock_id
LEFT JOIN extended ON extended.lock_id = asked.lock_id
LEFT JOIN shared ON shared.lock_id = asked.lock_id
ORDER BY asked.position
