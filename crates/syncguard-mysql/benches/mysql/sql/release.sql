-- Ends a grant.
--
-- In:  the lock id
-- Out: nothing
UPDATE syncguard_locks SET lock_id = NULL, expires_at_ms = 0 WHERE lock_id = ?
