-- Makes the row of a key the head of a grant that was stored, or moves it on to that grant.
--
-- In:  ?1 key, ?2 id of the head, ?3 fence of the grant, ?4 when it was made in ms
-- Out: nothing
INSERT INTO syncguard_locks (key, fence, lock_id, acquired_at_ms, expires_at_ms)
SELECT ?1, ?3, ?2, ?4, max(expires_at_ms) FROM syncguard_holders WHERE head = ?2
ON CONFLICT (key) DO UPDATE SET
    fence = excluded.fence,
    lock_id = excluded.lock_id,
    owner = NULL,
    acquired_at_ms = iif(lock_id = excluded.lock_id, acquired_at_ms, excluded.acquired_at_ms),
    expires_at_ms = excluded.expires_at_ms
