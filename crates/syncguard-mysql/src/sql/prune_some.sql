-- Clears some of the grants that ended long ago from their rows, and deletes some of the old tombstones of
-- abandoned ids. Rows of keys stay, with their fences, unless the fence is 0. Three statements that are sent together;
-- each is a transaction by itself.
--
-- In:  $1 lock id, $2 minimum time since the end of a grant in ms, $3 number of rows to examine, $4 fence limit
-- Out: no rows; the number of rows changed by all of them
--
-- The first two statements examine only the rows with the ids that follow the given id. The third examines the
-- tombstones that follow it. Rows that another client is changing are left alone, so no statement waits
-- for another client. Rows whose fence is at or above the limit, or whose id or holders cannot be read, are left
-- alone as well, so that an operator sees them unchanged. The inner limits keep the server from merging the
-- subqueries, which would lock rows before it is known whether their grants have ended. The order of the joins is
-- fixed, because the server would scan a small table first, and wait for the rows that the subqueries skip.
UPDATE (
    SELECT candidate.lock_key
    FROM {locks} AS candidate
    JOIN (
        SELECT lock_key FROM {locks} WHERE lock_id > $1 ORDER BY lock_id LIMIT $3
    ) AS seen ON candidate.lock_key = seen.lock_key
    WHERE candidate.lock_key < X'FF'
        AND candidate.fence BETWEEN 1 AND $4 - 1
        AND LENGTH(candidate.lock_id) IN (22, {head_bytes})
        AND NOT CONVERT(candidate.lock_id USING latin1) REGEXP '[^0-9A-Za-z_-]'
        AND {is_intact}
        AND candidate.expires_at_ms > 0
        AND candidate.expires_at_ms <= {now} - $2
    LIMIT $3
    FOR UPDATE SKIP LOCKED
) AS old
STRAIGHT_JOIN {locks} AS locks ON locks.lock_key = old.lock_key
SET locks.lock_id = NULL, locks.owner = NULL, locks.expires_at_ms = 0 {and_unshare}
WHERE locks.expires_at_ms > 0 AND locks.expires_at_ms <= {now} - $2;

DELETE locks FROM (
    SELECT candidate.lock_key
    FROM {locks} AS candidate
    JOIN (
        SELECT lock_key FROM {locks} WHERE lock_id > $1 ORDER BY lock_id LIMIT $3
    ) AS seen ON candidate.lock_key = seen.lock_key
    WHERE candidate.lock_key < X'FE'
        AND candidate.fence = 0
        AND LENGTH(candidate.lock_id) = 22
        AND NOT CONVERT(candidate.lock_id USING latin1) REGEXP '[^0-9A-Za-z_-]'
        AND candidate.expires_at_ms > 0
        AND candidate.expires_at_ms <= {now} - $2
    LIMIT $3
    FOR UPDATE SKIP LOCKED
) AS old
STRAIGHT_JOIN {locks} AS locks ON locks.lock_key = old.lock_key
WHERE locks.fence = 0 AND locks.expires_at_ms > 0 AND locks.expires_at_ms <= {now} - $2;

DELETE locks FROM (
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
) AS old
STRAIGHT_JOIN {locks} AS locks ON locks.lock_key = old.lock_key
WHERE locks.acquired_at_ms <= {now} - $2
