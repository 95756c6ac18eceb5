-- Reads the record of a key, whether its grant is live or expired.
--
-- In:  ?1 key
-- Out: at most one row (key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, now_ms)
SELECT key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, clock.now_ms
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
CROSS JOIN syncguard_locks
WHERE key = ?1
