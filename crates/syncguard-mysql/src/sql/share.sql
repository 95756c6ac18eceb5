-- Grants a key in shared mode, and then reads its row. Three statements that are sent together; each is a
-- transaction by itself. The row may have been retired after the first one, as in `acquire.sql`.
--
-- In:  $1 key, $2 lock id, $3 ttl in ms, $4 owner or NULL, $5 grace in ms, $6 fence limit, $7 id of a new head,
--      $8 number of permits or NULL
-- Out: one row: made: the number of rows changed by the grant; refused: whether the id holds another key or was
--      abandoned; joined: whether the id has had a grant; lock_id, fence, owner, expires_at_ms, holders, permits;
--      announced_id, announced_until_ms: the announcement that stands for the key; now_ms.
--      An error if the id is not unique: it was abandoned, or holds another key.

-- A key that was never locked gets a row that no one holds.
INSERT IGNORE INTO {locks} (lock_key, fence, acquired_at_ms, expires_at_ms)
SELECT $1, 0, 0, 0
FROM DUAL
WHERE NOT EXISTS (SELECT * FROM {locks} WHERE lock_key = $1);

-- This statement alone makes the grant: it changes the row of the key, which is the head, and inserts the row of
-- the member. The head is locked and read at its latest version before anything is decided, and the clock is read
-- then, once. The inner limits keep the server from merging the subqueries, which would read the clock again for
-- each use. If the key is not granted, nothing is written.
INSERT INTO {locks} (lock_key, fence, lock_id, acquired_at_ms, expires_at_ms, member_of)
SELECT
    IF(part.is_head, $1, CONCAT(X'FE', $2)),
    0,
    IF(part.is_head, NULL, $2),
    head.now_ms,
    0,
    IF(part.is_head, NULL, $1)
FROM (
    SELECT
        seen.*,
        seen.expires_at_ms <= seen.now_ms - $5 AS is_free,
        seen.expires_at_ms > seen.now_ms - $5 AND LENGTH(seen.lock_id) = {head_bytes} AS is_shared
    FROM (
        SELECT
            fence AS last_fence, lock_id, acquired_at_ms, expires_at_ms, permits, holders, announced_fence,
            announced_until_ms, {now} AS now_ms
        FROM {locks}
        WHERE lock_key = $1
        LIMIT 1
        FOR UPDATE
    ) AS seen
    LIMIT 1
) AS head
JOIN (SELECT TRUE AS is_head UNION ALL SELECT FALSE) AS part
WHERE head.last_fence < $6
    AND NOT (head.announced_fence <=> head.last_fence AND head.announced_until_ms > head.now_ms)
    AND (
        head.is_free
        OR head.is_shared
            AND head.permits <=> $8
            AND JSON_TYPE(head.holders) = 'OBJECT'
            AND NOT JSON_CONTAINS_PATH(
                head.holders, 'one', CONCAT('$."id:', CONVERT($2 USING utf8mb4), '"')
            )
            AND {is_readable}
            AND (
                SELECT $8 IS NULL OR COUNT(*) < $8
                FROM JSON_TABLE(
                    head.holders, '$.*' COLUMNS (expires_at_ms BIGINT PATH '$.expires_at_ms')
                ) AS holder
                WHERE holder.expires_at_ms > head.now_ms - $5
            )
    )
    AND NOT EXISTS (SELECT * FROM {locks} AS named WHERE named.lock_id = $2)
ON DUPLICATE KEY UPDATE
    -- Only the row of the key may be updated. A row that already has the key or the id of the member would get
    -- the key as well, which the primary key refuses, and with it the whole statement.
    lock_key = $1,
    fence = {next_shared_fence},
    lock_id = IF(head.is_shared, head.lock_id, $7),
    owner = NULL,
    acquired_at_ms = IF(head.is_shared, head.acquired_at_ms, head.now_ms),
    expires_at_ms = GREATEST(head.now_ms + $3, IF(head.is_shared, head.expires_at_ms, 0)),
    permits = $8,
    holders = JSON_SET(
        IF(head.is_shared, head.holders, JSON_OBJECT()),
        CONCAT('$."id:', CONVERT($2 USING utf8mb4), '"'),
        JSON_OBJECT(
            'fence', {next_shared_fence},
            'acquired_at_ms', head.now_ms,
            'expires_at_ms', head.now_ms + $3,
            'owner', CONVERT($4 USING utf8mb4)
        )
    );

SELECT
    ROW_COUNT() AS made,
    EXISTS (
        SELECT * FROM {locks} AS named
        WHERE named.lock_id = $2 AND named.lock_key <> $1 AND NOT named.member_of <=> $1
    ) AS refused,
    EXISTS (SELECT * FROM {locks} AS reader WHERE reader.lock_key = CONCAT(X'FE', $2)) AS joined,
    locks.lock_id,
    locks.fence,
    locks.owner,
    locks.expires_at_ms,
    {sharing},
    IF(locks.announced_fence = locks.fence, locks.announced_id, NULL) AS announced_id,
    IF(locks.announced_fence = locks.fence, locks.announced_until_ms, NULL) AS announced_until_ms,
    {now} AS now_ms
FROM {locks} AS locks
WHERE locks.lock_key = $1
