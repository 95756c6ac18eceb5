-- Creates a counter as the TypeScript client does.
--
-- In:  $1 fence key, $2 user key
-- Out: nothing
INSERT INTO syncguard_fence_counters (fence_key, fence, key_debug) VALUES ($1, 0, $2)
ON CONFLICT (fence_key) DO NOTHING
