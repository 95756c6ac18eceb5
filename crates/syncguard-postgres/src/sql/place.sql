-- Waits at the head of the queue for a key for a moment, if a client that notifies no one holds the key.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms; {pause}: the wait in ms
-- Out: no rows; another statement of the same text follows, and returns own_transaction
--
-- Only a client that gets the advisory lock at once waits there. It keeps the lock until the end of the
-- transaction. Therefore, however many clients wait, one of them is at the head, and the others queue. The
-- holder of the key needs the advisory lock neither to release nor, if it is a TypeScript client, to extend. A
-- client that asks for the key meanwhile waits for at most the sum of the pauses.
SELECT
FROM (
    {stand}
) AS stand
WHERE CASE
    WHEN stand.own_transaction AND stand.lock_id <> $2 AND NOT stand.notifies
        THEN CASE
            WHEN pg_try_advisory_xact_lock(hashtext($1)) THEN pg_sleep({pause} / 1000.0)::text IS NULL
        END
END
