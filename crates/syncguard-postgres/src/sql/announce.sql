-- Keeps new shared holders of a key out for a time, for an exclusive request that its holders refused. An
-- announcement that ends later stays.
--
-- In:  $1 key as stored, $2 lock id, $3 the time in ms
-- Out: one row: own_transaction; announced
--
-- It announces even if the last of the holders has left since they refused the request: an announcement stays
-- when they leave, whichever was first. If another request took the key over, nothing is announced.
--
-- It follows `queue` in the same text. Under the advisory lock, its snapshot shows whether the id was abandoned
-- before. An abandon that comes later waits for the advisory lock, and removes the announcement. The commit
-- does not wait for the disk: after a crash of the server, the next attempt announces again.
WITH announced AS (
    UPDATE {locks} AS locks
    SET announced_by = $2, announced_until_ms = clock.now_ms + $3
    FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
    WHERE {own_transaction}
        AND locks.key = $1
        AND locks.shared_id = locks.lock_id
        AND coalesce(locks.announced_until_ms, 0) <= clock.now_ms + $3
        AND NOT EXISTS (SELECT FROM {locks} AS own WHERE own.lock_id = $2)
    RETURNING locks.key
)
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    EXISTS (SELECT FROM announced) AS announced
