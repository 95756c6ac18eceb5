-- Ends the exclusive grant of an id, live or expired. The fence stays. A record that cannot be read stays too.
-- A record with fence 0, which has no counter, keeps its id, by which it is found when records are pruned.
--
-- In:  ?1 lock id
-- Out: nothing
UPDATE syncguard_locks
SET
    lock_id = iif(fence = 0, lock_id, NULL),
    owner = NULL,
    acquired_at_ms = iif(fence = 0, acquired_at_ms, NULL),
    expires_at_ms = iif(fence = 0, 0, NULL)
WHERE lock_id = ?1
    AND typeof(key) = 'text'
    AND typeof(fence) = 'integer' AND fence BETWEEN 0 AND 999999999999999
    AND typeof(acquired_at_ms) = 'integer'
    AND typeof(expires_at_ms) = 'integer'
    AND NOT EXISTS (SELECT 1 FROM syncguard_holders WHERE head = ?1)
