-- Finds a lock for its release as the TypeScript client does.
--
-- In:  $1 lock id
-- Out: at most one row
SELECT key, expires_at_ms FROM syncguard_locks WHERE lock_id = $1 FOR UPDATE
