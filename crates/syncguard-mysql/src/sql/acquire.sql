-- Grants a key that no one holds, and then reads its row. Three statements that are sent together; each is a
-- transaction by itself.
--
-- In:  $1 key, $2 lock id, $3 ttl in ms, $4 owner or NULL, $5 grace in ms, $6 fence limit
-- Out: one row: made: the number of grants made by these statements; refused: whether the id holds another key
--      or was abandoned; lock_id, fence, owner, expires_at_ms, permits, now_ms.
--      An error if the id is not unique: it was abandoned, or holds another key.

-- A key that was never locked gets a row that no one holds. Of several concurrent clients, one inserts the
-- row, and the others wait for that.
INSERT IGNORE INTO {locks} (lock_key, fence, acquired_at_ms, expires_at_ms)
SELECT $1, 0, 0, 0
FROM DUAL
WHERE NOT EXISTS (SELECT * FROM {locks} WHERE lock_key = $1);

-- This statement alone makes the grant. The row is locked before the condition is tested, on the latest version
-- of the row. Therefore, of several concurrent clients, the first is granted the key, and the others find it
-- held. The clock is read after the wait for the row. If the key is held, nothing is written. A new id ends what
-- the row has of shared mode, because that counts only with its own id.
--
-- A claim leaves the fence of a key at 0 that was never granted a fence. Such a row is that of a key without a counter,
-- and is deleted once its grant has ended (see `prune.sql`).
--
-- If counters are seeded, the fence is at least the time. The row may have been deleted since the first statement.
-- Then no grant is made, and the last statement returns no row.
--
-- Assignments are made from left to right: `expires_at_ms` is computed from the new `acquired_at_ms`.
UPDATE {locks}
SET
    fence = {granted_fence},
    lock_id = $2,
    owner = $4,
    acquired_at_ms = {now},
    expires_at_ms = acquired_at_ms + $3
WHERE lock_key = $1
    AND expires_at_ms <= {now} - $5
    AND NOT lock_id <=> $2
    AND fence < $6;

-- The id shows whose grant it is, whether it was made now or long ago.
SELECT
    ROW_COUNT() AS made,
    EXISTS (
        SELECT * FROM {locks} AS named WHERE named.lock_id = $2 AND named.lock_key <> $1
    ) AS refused,
    locks.lock_id,
    locks.fence,
    locks.owner,
    locks.expires_at_ms,
    {shared_mode},
    {now} AS now_ms
FROM {locks} AS locks
WHERE locks.lock_key = $1
