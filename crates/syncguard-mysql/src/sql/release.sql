-- Ends a live exclusive grant. The fence stays. If it is 0, the row has no counter, and keeps its id, by which it is
-- found when rows are pruned.
--
-- In:  $1 lock id, $2 grace in ms
-- Out: no rows; the number of changed rows
UPDATE {locks}
SET lock_id = IF(fence = 0, lock_id, NULL), owner = NULL, expires_at_ms = IF(fence = 0, 1, 0)
WHERE lock_id = $1 AND expires_at_ms > {now} - $2
