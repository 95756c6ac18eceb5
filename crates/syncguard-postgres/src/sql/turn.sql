-- Waits for the advisory lock of a key. Sent in front of `acquire`, in one text: the server runs both in
-- one transaction, and takes a snapshot of its own for each.
--
-- In:  $1 key as stored
-- Out: one row: sound
SELECT
    {sound} AS sound,
    CASE WHEN {sound} THEN pg_advisory_xact_lock(hashtext($1))::text END AS turn
