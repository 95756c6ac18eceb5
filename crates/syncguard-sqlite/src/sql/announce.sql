-- Stores the announcement of a writer, in place of any other one.
--
-- In:  ?1 key, ?2 lock id, ?3 when it ends in ms, ?4 the fence of the key
-- Out: nothing
INSERT INTO syncguard_announcements (key, lock_id, until_ms, fence) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (key) DO UPDATE SET
    lock_id = excluded.lock_id,
    until_ms = excluded.until_ms,
    fence = excluded.fence
