-- Queues for the advisory lock of a key, as TypeScript clients do, and holds it for the statements that follow
-- in the same text. Each of those has its own snapshot, taken while the lock is held.
--
-- In:  $1 key as stored
-- Out: no rows; another statement of the same text follows, and returns own_transaction
SELECT
WHERE CASE WHEN {own_transaction} THEN pg_advisory_xact_lock(hashtext($1))::text IS NULL END
