-- Lets a head follow its holders: it ends with the last of them, and is cleared if there are none. The fence stays.
--
-- In:  ?1 id of the head
-- Out: nothing
UPDATE syncguard_locks
SET
    lock_id = iif(latest.expires_at_ms IS NULL, NULL, lock_id),
    acquired_at_ms = iif(latest.expires_at_ms IS NULL, NULL, acquired_at_ms),
    expires_at_ms = latest.expires_at_ms
FROM (SELECT max(expires_at_ms) AS expires_at_ms FROM syncguard_holders WHERE head = ?1) AS latest
WHERE lock_id = ?1
