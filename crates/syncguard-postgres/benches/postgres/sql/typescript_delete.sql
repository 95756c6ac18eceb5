-- Ends a lock as the TypeScript client does.
--
-- In:  $1 lock id
-- Out: nothing
DELETE FROM syncguard_locks WHERE lock_id = $1
