-- Takes some of the grants off their rows that are long over, and deletes some of the marks of abandoned
-- ids that are old. Rows of keys stay, with their fences. Two statements that are sent together; each is a
-- transaction by itself.
--
-- In:  $1 lock id, $2 how long over in ms, $3 how many rows to look at, $4 fence limit
-- Out: nothing; the number of rows that were changed by both
--
-- The first looks at a few rows only, those with the ids next to the given one; the second at the first marks.
-- Rows that another client is changing are left alone, so neither waits for one. So are rows whose fence is
-- at the limit or above, which an operator wants to see as they are. The limits in between keep the server
-- from merging the parts, which would lock rows before it is known whether they are over.
UPDATE {locks} AS locks
JOIN (
    SELECT candidate.lock_key
    FROM {locks} AS candidate
    JOIN (
        SELECT lock_key FROM {locks} WHERE lock_id > $1 ORDER BY lock_id LIMIT $3
    ) AS seen ON candidate.lock_key = seen.lock_key
    WHERE candidate.lock_key < X'FF'
        AND candidate.fence < $4
        AND candidate.expires_at_ms > 0
        AND candidate.expires_at_ms <= {now} - $2
    LIMIT $3
    FOR UPDATE SKIP LOCKED
) AS old ON locks.lock_key = old.lock_key
SET locks.lock_id = NULL, locks.owner = NULL, locks.expires_at_ms = 0
WHERE locks.expires_at_ms > 0 AND locks.expires_at_ms <= {now} - $2;

DELETE locks FROM {locks} AS locks
JOIN (
    SELECT candidate.lock_key
    FROM {locks} AS candidate
    JOIN (
        SELECT lock_key FROM {locks}
        WHERE lock_key > CONCAT(X'FF', $1)
        ORDER BY lock_key
        LIMIT $3
    ) AS seen ON candidate.lock_key = seen.lock_key
    WHERE candidate.acquired_at_ms <= {now} - $2
    LIMIT $3
    FOR UPDATE SKIP LOCKED
) AS old ON locks.lock_key = old.lock_key
WHERE locks.acquired_at_ms <= {now} - $2
