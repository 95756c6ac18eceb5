-- Sets the expiry of a live exclusive grant to now plus the ttl.
--
-- In:  $1 lock id, $2 ttl in ms, $3 grace in ms
-- Out: no rows; the number of changed rows, and the new expiry in ms as the last insert id
UPDATE {locks}
SET expires_at_ms = LAST_INSERT_ID({now} + $2)
WHERE lock_id = $1 AND expires_at_ms > {now} - $3
