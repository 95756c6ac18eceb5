-- Sets the expiry of a shared grant. The head has to follow it.
--
-- In:  ?1 lock id, ?2 when the grant ends in ms
-- Out: nothing
UPDATE syncguard_holders SET expires_at_ms = ?2 WHERE lock_id = ?1
