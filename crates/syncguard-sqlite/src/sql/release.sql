-- Ends a live grant. The fence stays.
--
-- In:  ?1 lock id, ?2 grace in ms
-- Out: one row if the grant was live, else none
WITH clock (now_ms) AS (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER))
UPDATE syncguard_locks
SET lock_id = NULL, owner = NULL, acquired_at_ms = NULL, expires_at_ms = NULL
WHERE lock_id = ?1 AND expires_at_ms > (SELECT now_ms FROM clock) - ?2
RETURNING fence
