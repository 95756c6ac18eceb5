-- Reads a lock as the TypeScript client does.
--
-- In:  $1 key
-- Out: at most one row
SELECT expires_at_ms, lock_id FROM syncguard_locks WHERE key = $1
