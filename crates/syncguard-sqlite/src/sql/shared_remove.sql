-- Removes the shared grant that an id has under a head, and those under this head that are not live. Also removes a
-- grant of the id that ended with another head. The head has to follow it.
--
-- In:  ?1 id of the head, ?2 lock id, ?3 the current time in ms, ?4 grace in ms
-- Out: nothing
DELETE FROM syncguard_holders
WHERE head = ?1 AND (lock_id = ?2 OR expires_at_ms <= ?3 - ?4)
    OR lock_id = ?2
    AND NOT EXISTS (
        SELECT 1 FROM syncguard_locks AS locks WHERE locks.lock_id = syncguard_holders.head
    )
