-- Ends a grant that is unchanged since it was read. The fence stays.
--
-- In:  ?1 key, ?2 lock id, ?3 expires_at_ms
-- Out: one row if the grant was unchanged, otherwise none
UPDATE syncguard_locks
SET lock_id = NULL, owner = NULL, acquired_at_ms = NULL, expires_at_ms = NULL
WHERE key = ?1 AND lock_id = ?2 AND expires_at_ms = ?3
RETURNING fence
