-- Clears a record that cannot be read. The counter stays unchanged.
--
-- In:  ?1 key
-- Out: one row if there was a record, otherwise none
UPDATE syncguard_locks
SET lock_id = NULL, owner = NULL, acquired_at_ms = NULL, expires_at_ms = NULL
WHERE key = ?1
    AND coalesce(lock_id, owner, acquired_at_ms, expires_at_ms) IS NOT NULL
RETURNING fence
