-- Sets the expiry of a live grant to now plus the ttl.
--
-- In:  ?1 lock id, ?2 ttl in ms, ?3 grace in ms, ?4 when grants began to count
-- Out: one row (expires_at_ms) if the grant is live, else none
WITH clock (now_ms) AS (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER))
UPDATE syncguard_locks SET expires_at_ms = (SELECT now_ms FROM clock) + ?2
WHERE lock_id = ?1
    AND acquired_at_ms >= ?4
    AND expires_at_ms > (SELECT now_ms FROM clock) - ?3
RETURNING expires_at_ms
