-- Gives live grants in the order of the bytes of their keys.
--
-- In:  $1 grace in ms, $2 prefix, $3 last key of the page before, empty for the first page, $4 most
--      locks to give
-- Out: rows: lock_key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, now_ms
--
-- Going by the index of the ids reads what is held, not every key that ever was.
SELECT lock_key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, {now} AS now_ms
FROM {locks} FORCE INDEX (lock_id)
WHERE lock_id IS NOT NULL
    AND expires_at_ms > {now} - $1
    AND LEFT(lock_key, LENGTH($2)) = $2
    AND lock_key > $3
ORDER BY lock_key
LIMIT $4
