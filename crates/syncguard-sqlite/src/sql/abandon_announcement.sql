-- Removes the announcement of an id.
--
-- In:  ?1 lock id, ?2 key
-- Out: nothing
DELETE FROM syncguard_announcements WHERE key = ?2 AND lock_id = ?1
