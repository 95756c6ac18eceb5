-- Ends whatever grant an id has, live or over. The fence stays.
--
-- In:  ?1 lock id
-- Out: nothing
UPDATE syncguard_locks
SET lock_id = NULL, owner = NULL, acquired_at_ms = NULL, expires_at_ms = NULL
WHERE lock_id = ?1
