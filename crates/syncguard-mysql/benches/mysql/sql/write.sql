-- Writes a grant.
--
-- In:  the key, the fence, the lock id, now in ms, the expiry in ms
-- Out: nothing
INSERT INTO syncguard_locks (lock_key, fence, lock_id, acquired_at_ms, expires_at_ms)
VALUES (?, ?, ?, ?, ?)
ON DUPLICATE KEY UPDATE
    fence = VALUES(fence),
    lock_id = VALUES(lock_id),
    acquired_at_ms = VALUES(acquired_at_ms),
    expires_at_ms = VALUES(expires_at_ms)
