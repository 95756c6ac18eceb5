-- Locks the row of a key and reads it.
--
-- In:  the key
-- Out: a row if there is one: fence, expires_at_ms, now_ms
SELECT fence, expires_at_ms, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(3)) DIV 1000 AS now_ms
FROM syncguard_locks
WHERE lock_key = ?
FOR UPDATE
