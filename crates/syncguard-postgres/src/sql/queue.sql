-- Queues for the advisory lock of a key, as TypeScript clients do, and keeps it for the statements behind
-- it in the same text. Each of those has a snapshot of its own, taken once the lock is held.
--
-- In:  $1 key as stored
-- Out: no rows; another statement of the same text follows, and says whether the connection is sound
SELECT
WHERE CASE WHEN {sound} THEN pg_advisory_xact_lock(hashtext($1))::text IS NULL END
