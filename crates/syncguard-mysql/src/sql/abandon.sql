-- Inserts the tombstone of an abandoned id, or ends the grant that holds the id. Three statements that are sent
-- together; each is a transaction by itself.
--
-- In:  $1 lock id, $2 key of the tombstone, $3 key
-- Out: one row: done; if it is 0, a grant under the id was ended, and the tombstone is still missing;
--      member_of: the key that the id still shares, or has announced itself for
--
-- See `release.rs` for why no grant escapes this.
INSERT INTO {locks} (lock_key, fence, lock_id, acquired_at_ms, expires_at_ms)
VALUES ($2, 0, $1, {now}, 0)
ON DUPLICATE KEY UPDATE
    -- This is the row that already has the id: the row of a key, that of a member, or the tombstone, which is not
    -- changed. Assignments are made from left to right.
    owner = IF(lock_id = $1, NULL, owner),
    expires_at_ms = IF(lock_id = $1, 0, expires_at_ms),
    lock_id = IF(lock_id = $1 AND lock_key <> $2, NULL, lock_id);

-- A row that no one holds and that has no counter is as good as none. One that another client is changing is left to
-- that client, so that an abandon never waits for it. The limit keeps the server from merging the subquery.
DELETE locks FROM (
    SELECT lock_key FROM {locks}
    WHERE lock_key = $3 AND fence = 0 AND lock_id IS NULL AND expires_at_ms = 0
    LIMIT 1
    FOR UPDATE SKIP LOCKED
) AS free
STRAIGHT_JOIN {locks} AS locks ON locks.lock_key = free.lock_key;

SELECT
    EXISTS (SELECT * FROM {locks} WHERE lock_key = $2) AS done,
    {member_of} AS member_of
