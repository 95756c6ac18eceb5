-- Ends every grant of a key and its announcement, whether or not they can be read. The fence stays. A
-- record with fence 0, which has no counter, is deleted.
--
-- In:  ?1 key
-- Out: nothing
DELETE FROM syncguard_holders
WHERE head = (SELECT lock_id FROM syncguard_locks WHERE key = ?1);

DELETE FROM syncguard_announcements WHERE key = ?1;

DELETE FROM syncguard_locks WHERE key = ?1 AND typeof(fence) = 'integer' AND fence = 0;

UPDATE syncguard_locks
SET lock_id = NULL, owner = NULL, acquired_at_ms = NULL, expires_at_ms = NULL
WHERE key = ?1;
