-- Clears some of the grants that ended long ago from their rows, and deletes some of the old tombstones of
-- abandoned ids. Rows of keys stay, with their fences, unless the fence is 0. Three statements that are sent together;
-- each is a transaction by itself.
--
-- In:  $1 minimum time since the end of a grant in ms, $2 minimum age of a tombstone in ms, $3 maximum number
--      of rows for each statement
-- Out: no rows; the number of rows changed by all of them
UPDATE {locks} FORCE INDEX (lock_id)
SET lock_id = NULL, owner = NULL, expires_at_ms = 0 {and_unshare}
WHERE lock_id IS NOT NULL AND fence > 0 AND expires_at_ms > 0 AND expires_at_ms <= {now} - $1
LIMIT $3;

DELETE locks FROM (
    SELECT lock_key FROM {locks} FORCE INDEX (lock_id)
    WHERE lock_id IS NOT NULL
        AND lock_key < X'FE'
        AND fence = 0
        AND expires_at_ms > 0
        AND expires_at_ms <= {now} - $1
    LIMIT $3
) AS old
STRAIGHT_JOIN {locks} AS locks ON locks.lock_key = old.lock_key
WHERE locks.fence = 0 AND locks.expires_at_ms > 0 AND locks.expires_at_ms <= {now} - $1;

DELETE FROM {locks}
WHERE lock_key >= X'FF' AND acquired_at_ms <= {now} - $2
LIMIT $3
