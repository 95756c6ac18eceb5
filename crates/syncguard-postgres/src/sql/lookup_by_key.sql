-- Reads the live grant of a key.
--
-- In:  $1 key as stored, $2 grace in ms
-- Out: one row: sound; the lock (key, user_key, lock_id, fence, owner, acquired_at_ms,
--      expires_at_ms, now_ms), all but now_ms NULL if there is none
SELECT
    connection.sound,
    locks.key,
    locks.user_key,
    locks.lock_id,
    locks.fence,
    {owner} AS owner,
    locks.acquired_at_ms,
    locks.expires_at_ms,
    connection.now_ms
FROM (
    SELECT
        {sound} AS sound,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
) AS connection
LEFT JOIN {locks} AS locks
    ON locks.key = $1 AND locks.expires_at_ms > connection.now_ms - $2
