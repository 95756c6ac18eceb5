-- Sets the expiry of a live exclusive grant to now plus the ttl.
--
-- In:  ?1 lock id, ?2 ttl in ms, ?3 grace in ms, ?4 earliest acquisition of a grant that counts
-- Out: one row (expires_at_ms) if the grant is live, otherwise none, also if its record cannot be
--      read, or if the id is that of a head
WITH clock (now_ms) AS (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER))
UPDATE syncguard_locks SET expires_at_ms = (SELECT now_ms FROM clock) + ?2
WHERE lock_id = ?1
    AND typeof(key) = 'text'
    AND typeof(fence) = 'integer' AND fence BETWEEN 0 AND 999999999999999
    AND typeof(acquired_at_ms) = 'integer'
    AND typeof(expires_at_ms) = 'integer'
    AND acquired_at_ms >= ?4
    AND NOT EXISTS (SELECT 1 FROM syncguard_holders WHERE head = ?1)
    AND expires_at_ms > (SELECT now_ms FROM clock) - ?3
RETURNING expires_at_ms
