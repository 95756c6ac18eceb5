-- Waits until no other client is deciding who gets a key, and writes nothing. The clients that wait share the
-- advisory lock, so that all of them continue at once.
--
-- In:  $1 key as stored
-- Out: no rows; another statement of the same text follows, and returns own_transaction
SELECT
WHERE CASE WHEN {own_transaction} THEN pg_advisory_xact_lock_shared(hashtext($1))::text IS NULL END
