-- Reads the live exclusive grant under an id.
--
-- In:  $1 lock id, $2 grace in ms
-- Out: a row if there is a grant: lock_key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, holders,
--      permits, now_ms
SELECT
    lock_key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, {sharing}, {start} AS now_ms
FROM {locks} AS locks
WHERE lock_id = $1 AND expires_at_ms > {start} - $2
