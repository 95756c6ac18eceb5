-- Removes some shared holders whose head is gone: it expired and was cleared or replaced, or a client that knows only
-- revision 2 released it by force. It examines only a few, those with the ids next to the given one. Holders of a
-- head that is there stay, live or not: the next grant or release of the key removes them.
--
-- In:  ?1 lock id, ?2 number of holders to examine
-- Out: nothing
DELETE FROM syncguard_holders
WHERE lock_id IN (
    SELECT lock_id FROM syncguard_holders WHERE lock_id > ?1 ORDER BY lock_id LIMIT ?2
)
    AND NOT EXISTS (
        SELECT 1 FROM syncguard_locks AS locks WHERE locks.lock_id = syncguard_holders.head
    )
