-- Looks one key up, and does nothing else.
--
-- In:  $1 key
-- Out: at most one row
SELECT 1 FROM syncguard_locks WHERE key = $1
