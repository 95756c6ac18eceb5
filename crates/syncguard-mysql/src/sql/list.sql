-- Reads live grants in the byte order of their keys.
--
-- In:  $1 grace in ms, $2 prefix, $3 last key of the previous page, empty for the first page, $4 maximum
--      number of locks
-- Out: rows: lock_key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, holders, permits, now_ms
--
-- Using the index of the ids reads the held locks, not every key that was ever locked.
SELECT
    lock_key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, {sharing}, {start} AS now_ms
FROM {locks} AS locks FORCE INDEX (lock_id)
WHERE lock_id IS NOT NULL
    AND expires_at_ms > {start} - $1
    AND LEFT(lock_key, LENGTH($2)) = $2
    AND lock_key > $3
ORDER BY lock_key
LIMIT $4
