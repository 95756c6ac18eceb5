-- Ends all live grants of a shared key, and deletes the rows of its members. Two statements that are sent together;
-- each is a transaction by itself.
--
-- In:  $1 key, $2 id of the head, $3 fence, $4 keys of the members, separated by commas
-- Out: no rows; the number of rows changed by both, 0 if another grant was made meanwhile
UPDATE {locks}
SET
    lock_id = NULL, expires_at_ms = 0,
    permits = NULL, holders = NULL,
    announced_id = NULL, announced_fence = NULL, announced_until_ms = NULL
WHERE lock_key = $1 AND lock_id = $2 AND fence = $3;

DELETE FROM {locks} WHERE lock_key IN ($4) AND ROW_COUNT() > 0
