-- Clears some of the grants that ended long ago from their rows, and deletes some of the old tombstones of
-- abandoned ids. Rows of keys stay, with their fences. Two statements that are sent together; each is a
-- transaction by itself.
--
-- In:  $1 minimum time since the end of a grant in ms, $2 minimum age of a tombstone in ms, $3 maximum number
--      of rows for each statement
-- Out: no rows; the number of rows changed by both
UPDATE {locks} FORCE INDEX (lock_id)
SET lock_id = NULL, owner = NULL, expires_at_ms = 0 {and_unshare}
WHERE lock_id IS NOT NULL AND expires_at_ms > 0 AND expires_at_ms <= {now} - $1
LIMIT $3;

DELETE FROM {locks}
WHERE lock_key >= X'FF' AND acquired_at_ms <= {now} - $2
LIMIT $3
