-- Reads the live grant under an id. The id of a shared grant finds the row of its key, if that row is live; the
-- holders show whether the grant is.
--
-- In:  $1 lock id, $2 grace in ms
-- Out: one row: own_transaction; the lock (key, user_key, lock_id, fence, owner, acquired_at_ms,
--      expires_at_ms, shared, now_ms). If there is no grant, all but own_transaction and now_ms are NULL.
SELECT
    connection.own_transaction,
    locks.key,
    locks.user_key,
    locks.lock_id,
    locks.fence,
    {owner} AS owner,
    {shared} AS shared,
    locks.acquired_at_ms,
    locks.expires_at_ms,
    connection.now_ms
FROM (
    SELECT
        {own_transaction} AS own_transaction,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
) AS connection
LEFT JOIN {locks} AS own ON own.lock_id = $1
LEFT JOIN {locks} AS locks
    ON {found_by_own} AND locks.expires_at_ms > connection.now_ms - $2
