-- Reads all that decides whether an acquire can succeed, without taking the write lock.
--
-- In:  ?1 key, ?2 lock id
-- Out: one row (now_ms, abandoned: 0 or 1, fence, lock_id, owner, expires_at_ms);
--      fence is NULL for a key that was never granted, the rest also for one that was released
SELECT
    clock.now_ms,
    EXISTS (SELECT 1 FROM syncguard_abandoned WHERE lock_id = ?2) AS abandoned,
    locks.fence,
    locks.lock_id,
    locks.owner,
    locks.expires_at_ms
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
LEFT JOIN syncguard_locks AS locks ON locks.key = ?1
