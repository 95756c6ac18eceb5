-- Reads everything that determines whether an exclusive acquire can succeed, without taking the write lock.
--
-- In:  ?1 key, ?2 lock id
-- Out: one row: the columns of `key_state.sql` except those of the holder and of the writer, and is_shared: 0 or 1,
--      or NULL if no one holds the key
SELECT
    clock.now_ms,
    EXISTS (SELECT 1 FROM syncguard_abandoned WHERE lock_id = ?2) AS abandoned,
    locks.key,
    locks.fence,
    locks.lock_id,
    locks.owner,
    locks.acquired_at_ms,
    locks.expires_at_ms,
    CASE WHEN locks.lock_id NOT NULL THEN
        EXISTS (SELECT 1 FROM syncguard_holders WHERE head = locks.lock_id)
    END AS is_shared
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
LEFT JOIN syncguard_locks AS locks ON locks.key = ?1
