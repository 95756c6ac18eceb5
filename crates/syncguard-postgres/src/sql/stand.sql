-- Reads what stands in the way of a grant: the first part of `acquire`, or all that is sent.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms
-- Out: one row: sound; the row that stands in the way (lock_id, fence, expires_at_ms, owner), if it is
--      live or the id's own, and whether a client of this library wrote it (notifies); now_ms
SELECT
    {sound} AS sound,
    locks.lock_id,
    locks.fence,
    locks.expires_at_ms,
    {owner} AS owner,
    {notifies} AS notifies,
    clock.now_ms
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
LEFT JOIN {locks} AS locks
    ON locks.key = $1 AND (locks.expires_at_ms > clock.now_ms - $3 OR locks.lock_id = $2)
