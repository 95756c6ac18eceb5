-- Ends the grant in shared mode of an abandoned id, deletes the row of its member, and removes the announcement of
-- the id. Three statements that are sent together; each is a transaction by itself.
--
-- In:  $1 lock id, $2 key
-- Out: nothing
{remove_holder}
WHERE lock_key = $2
    AND LENGTH(lock_id) = {head_bytes}
    AND JSON_CONTAINS_PATH(holders, 'one', CONCAT('$."id:', CONVERT($1 USING utf8mb4), '"'))
    AND {is_readable};

-- The row of the member stays for as long as the head may name it.
DELETE reader
FROM {locks} AS head
STRAIGHT_JOIN {locks} AS reader ON reader.member_of = head.lock_key
WHERE head.lock_key = $2
    AND reader.lock_key = CONCAT(X'FE', $1)
    AND NOT {names_member};

UPDATE {locks}
SET announced_id = NULL, announced_fence = NULL, announced_until_ms = NULL
WHERE lock_key = $2 AND announced_id = $1
