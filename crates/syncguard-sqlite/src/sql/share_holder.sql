-- Stores a shared grant. Fails if its id has another one.
--
-- In:  ?1 lock id, ?2 id of the head, ?3 permits or NULL, ?4 fence, ?5 owner or NULL, ?6 when it is made in ms,
--      ?7 when it ends in ms
-- Out: nothing
INSERT INTO syncguard_holders (lock_id, head, permits, fence, owner, acquired_at_ms, expires_at_ms)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
