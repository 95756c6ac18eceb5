-- Sets the expiry of a live grant to now plus the ttl.
--
-- In:  $1 lock id, $2 ttl in ms, $3 grace in ms
-- Out: nothing; the number of rows that were changed, and as the last insert id the new expiry in ms
UPDATE {locks}
SET expires_at_ms = LAST_INSERT_ID({now} + $2)
WHERE lock_id = $1 AND expires_at_ms > {now} - $3
