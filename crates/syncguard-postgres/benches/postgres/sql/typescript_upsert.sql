-- Writes a lock as the TypeScript client does.
--
-- In:  $1 key, $2 lock id, $3 expiry, $4 start, $5 fence
-- Out: nothing
INSERT INTO syncguard_locks (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
VALUES ($1, $2, $3, $4, $5, $1)
ON CONFLICT (key) DO UPDATE SET
    lock_id = excluded.lock_id,
    expires_at_ms = excluded.expires_at_ms,
    acquired_at_ms = excluded.acquired_at_ms,
    fence = excluded.fence,
    user_key = excluded.user_key
