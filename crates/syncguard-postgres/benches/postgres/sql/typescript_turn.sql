-- Queues as the TypeScript client does.
--
-- In:  $1 key
-- Out: one row
SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtext($1))) AS turn
