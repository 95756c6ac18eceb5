-- Keeps new holders in shared mode out of a shared key. Three statements that are sent together; each is a
-- transaction by itself.
--
-- In:  $1 key, $2 lock id, $3 how long in ms, $4 grace in ms
-- Out: one row: stands: the number of announcements that stand for the key; the number of changed rows, 0 if the
--      key is not shared any more, or another announcement ends later
--
-- An announcement stands only while the fence of its row is unchanged. Therefore every exclusive grant ends it,
-- and no statement that makes one needs to mention it. No shared grant is made while it stands.
UPDATE {locks}
SET
    announced_id = $2,
    announced_fence = fence,
    announced_until_ms = {now} + $3
WHERE lock_key = $1
    AND LENGTH(lock_id) = {head_bytes}
    AND expires_at_ms > {now} - $4
    AND NOT (announced_fence <=> fence AND announced_until_ms > {now} + $3);

-- An id that was abandoned announces nothing. An abandon inserts its tombstone and then removes the announcement;
-- these statements write the announcement and then look for the tombstone. Whichever writes last finds what the
-- other has written.
UPDATE {locks}
SET announced_id = NULL, announced_fence = NULL, announced_until_ms = NULL
WHERE lock_key = $1
    AND announced_id = $2
    AND EXISTS (
        SELECT *
        FROM (SELECT lock_key FROM {locks} WHERE lock_key = CONCAT(X'FF', $2) LIMIT 1) AS tombstone
    );

SELECT COUNT(*) AS stands
FROM {locks}
WHERE lock_key = $1 AND announced_fence = fence AND announced_until_ms > {now}
