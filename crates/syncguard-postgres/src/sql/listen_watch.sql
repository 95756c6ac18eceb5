-- Takes the advisory locks that show to a release that a client waits. They are shared, and belong to the
-- connection, not to a transaction.
--
-- In:  $1 keys as stored, $2 class of the advisory locks of waiters, $3 buckets whose locks the
--      connection already holds
-- Out: a row for each key: key; hash, by which releases name it; bucket; watched: false if a release of
--      a key of the bucket is being committed
--
-- There is one lock for each bucket of keys, not for each key, because the server's lock table is small and
-- shared by all its clients. The bucket is the last eight bits of the hash, here and in the statements that
-- release. A lock that the connection already holds is not taken again, because the server counts how often a
-- connection has taken a lock.
WITH keys AS MATERIALIZED (
    SELECT names.key, hashtext(names.key) AS hash FROM unnest($1::text[]) AS names (key)
),
buckets AS MATERIALIZED (
    SELECT
        used.bucket,
        CASE
            WHEN used.bucket = ANY($3::integer[]) THEN true
            ELSE pg_try_advisory_lock_shared($2, used.bucket)
        END AS watched
    FROM (SELECT DISTINCT hash & 255 AS bucket FROM keys) AS used
)
SELECT keys.key, keys.hash, buckets.bucket, buckets.watched
FROM keys
JOIN buckets ON buckets.bucket = keys.hash & 255
