-- Ends the live grant of a key whose record cannot be read. The fence is not changed.
--
-- In:  $1 key, $2 grace in ms
-- Out: no rows; the number of changed rows
UPDATE {locks}
SET lock_id = NULL, owner = NULL, expires_at_ms = 0
WHERE lock_key = $1 AND expires_at_ms > {now} - $2
