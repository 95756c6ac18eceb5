-- Deletes the rows of some keys that no one holds and that were not granted for a time, with their fence counters.
-- Three statements that are sent together; each is a transaction by itself.
--
-- In:  $1 key after which to begin, $2 how long a key must not have been granted in ms, $3 lowest fence of a row that
--      is deleted, $4 number of rows to examine
-- Out: one row: retired: the number of deleted rows; last: the last key that was examined, NULL if there are no more
SET @syncguard_last = (
    SELECT MAX(page.lock_key)
    FROM (
        SELECT lock_key FROM {locks}
        WHERE lock_key > $1 AND lock_key < X'FE'
        ORDER BY lock_key
        LIMIT $4
    ) AS page
);

-- The second statement decides on the latest version of each row, which it locks. A seeded fence is at least the time
-- of the last grant. What is left of a row that was shared, the rows of its members, is pruned.
DELETE FROM {locks}
WHERE lock_key > $1
    AND lock_key <= @syncguard_last
    AND fence BETWEEN $3 AND {now} - $2
    AND expires_at_ms <= {now} - $2
    {and_unannounced};

SELECT ROW_COUNT() AS retired, @syncguard_last AS last
