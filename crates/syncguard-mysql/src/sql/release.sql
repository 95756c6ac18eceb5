-- Ends a live exclusive grant. The fence stays.
--
-- In:  $1 lock id, $2 grace in ms
-- Out: no rows; the number of changed rows
UPDATE {locks}
SET lock_id = NULL, owner = NULL, expires_at_ms = 0
WHERE lock_id = $1 AND expires_at_ms > {now} - $2
