-- Releases advisory locks that `listen_watch` has taken.
--
-- In:  $1 buckets, $2 class of the advisory locks of waiters
-- Out: a row for each bucket: unwatched
SELECT pg_advisory_unlock_shared($2, used.bucket) AS unwatched
FROM unnest($1::integer[]) AS used (bucket)
