-- Waits until no other client is deciding who gets a key, and writes nothing. Whoever waits shares the
-- advisory lock, so that all are let go at once.
--
-- In:  $1 key as stored
-- Out: no rows; another statement of the same text follows, and says whether the connection is sound
SELECT
WHERE CASE WHEN {sound} THEN pg_advisory_xact_lock_shared(hashtext($1))::text IS NULL END
