-- Reads live grants in the byte order of their keys as stored.
--
-- In:  $1 grace in ms, $2 prefix, or NULL if no unescaped key can begin with it, $3 escaped prefix,
--      $4 last key of the previous page or NULL, $5 maximum number of locks
-- Out: rows: own_transaction; the lock (key, user_key, lock_id, fence, owner, shared, acquired_at_ms,
--      expires_at_ms, now_ms). If there is no lock, one row in which all but own_transaction and now_ms are NULL.
--
-- Using the index of expiries reads the held locks, not every key that was ever locked.
WITH connection AS MATERIALIZED (
    SELECT
        {own_transaction} AS own_transaction,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
page AS (
    SELECT
        locks.key,
        locks.user_key,
        locks.lock_id,
        locks.fence,
        {owner} AS owner,
        {shared} AS shared,
        locks.acquired_at_ms,
        locks.expires_at_ms
    FROM {locks} AS locks
    WHERE locks.expires_at_ms > (SELECT now_ms FROM connection) - $1
        AND CASE
            WHEN locks.key = locks.user_key THEN starts_with(locks.user_key, $2)
            ELSE starts_with(locks.user_key, $3)
        END
        AND ($4::text IS NULL OR locks.key COLLATE "C" > $4::text COLLATE "C")
    ORDER BY locks.key COLLATE "C"
    LIMIT $5
)
SELECT
    connection.own_transaction,
    page.key,
    page.user_key,
    page.lock_id,
    page.fence,
    page.owner,
    page.shared,
    page.acquired_at_ms,
    page.expires_at_ms,
    connection.now_ms
FROM connection
LEFT JOIN page ON true
ORDER BY page.key COLLATE "C"
