-- Stands at the head of the queue for a key for a moment, if a client that notifies no one holds the key.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms; {pause}: the moment in ms
-- Out: no rows; another statement of the same text follows, and says whether the connection is sound
--
-- Only a client that gets the advisory lock at once stands there, and keeps it to the end of the
-- transaction; so however many clients wait, one of them does, and the others queue. Whoever holds the
-- key needs the advisory lock neither to release nor, if it is a TypeScript client, to extend. A client
-- that asks for the key in the meantime waits for as long as the pauses are together.
SELECT
FROM (
    {stand}
) AS stand
WHERE CASE
    WHEN stand.sound AND stand.lock_id <> $2 AND NOT stand.notifies
        THEN CASE
            WHEN pg_try_advisory_xact_lock(hashtext($1)) THEN pg_sleep({pause} / 1000.0)::text IS NULL
        END
END
