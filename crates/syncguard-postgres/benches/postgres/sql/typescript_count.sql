-- Increases a fence as the TypeScript client does.
--
-- In:  $1 fence key
-- Out: one row (fence)
UPDATE syncguard_fence_counters SET fence = fence + 1 WHERE fence_key = $1 RETURNING fence
