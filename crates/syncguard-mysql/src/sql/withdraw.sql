-- Removes the announcement of a key. It is sent together with the statement that looks the key up.
--
-- In:  $1 key
-- Out: no rows
UPDATE {locks}
SET announced_id = NULL, announced_fence = NULL, announced_until_ms = NULL
WHERE lock_key = $1 AND announced_id IS NOT NULL
