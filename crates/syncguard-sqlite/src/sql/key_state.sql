-- Reads everything that determines whether an acquire can succeed, without taking the write lock.
--
-- In:  ?1 key, ?2 lock id
-- Out: one row (now_ms, abandoned: 0 or 1, and key, fence, lock_id, owner, acquired_at_ms,
--      expires_at_ms); these six are NULL for a key that was never granted, the last four also for
--      one that was released
SELECT
    clock.now_ms,
    EXISTS (SELECT 1 FROM syncguard_abandoned WHERE lock_id = ?2) AS abandoned,
    locks.key,
    locks.fence,
    locks.lock_id,
    locks.owner,
    locks.acquired_at_ms,
    locks.expires_at_ms
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
LEFT JOIN syncguard_locks AS locks ON locks.key = ?1
