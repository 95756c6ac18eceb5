-- Reads the live head of the key that an id shares, or has shared.
--
-- In:  $1 lock id, $2 grace in ms
-- Out: a row if there is a head: lock_key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, holders, permits,
--      now_ms
SELECT
    locks.lock_key, locks.lock_id, locks.fence, locks.owner, locks.acquired_at_ms, locks.expires_at_ms,
    {sharing}, {start} AS now_ms
FROM {locks} AS reader
JOIN {locks} AS locks ON locks.lock_key = reader.member_of
WHERE reader.lock_key = CONCAT(X'FE', $1)
    AND LENGTH(locks.lock_id) = {head_bytes}
    AND locks.expires_at_ms > {start} - $2
