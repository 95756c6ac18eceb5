-- Reads what stands in the way of a grant: the first part of `acquire`, or all that is sent.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms
-- Out: one row: sound; the row that stands in the way (lock_id, fence, expires_at_ms, owner), if it is
--      live or the id's own; now_ms
SELECT
    {sound} AS sound,
    held.lock_id,
    held.fence,
    held.expires_at_ms,
    CASE WHEN held.owner_lock_id = held.lock_id THEN held.owner END AS owner,
    clock.now_ms
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
LEFT JOIN {locks} AS held
    ON held.key = $1 AND (held.expires_at_ms > clock.now_ms - $3 OR held.lock_id = $2)
