-- Gives advisory locks back that were taken by `listen_watch`.
--
-- In:  $1 keys as stored, $2 class of the advisory locks of waiters
-- Out: a row for each key: unwatched
SELECT pg_advisory_unlock_shared($2, hashtext(keys.key)) AS unwatched
FROM unnest($1::text[]) AS keys (key)
