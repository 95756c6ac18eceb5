-- Takes the advisory locks by which releases see that somebody waits for a key. They are those of
-- the connection, not of a transaction, and shared.
--
-- In:  $1 keys as stored, $2 class of the advisory locks of waiters
-- Out: a row for each key: key; hash, by which releases name it; watched: false if a release of the
--      key is just being committed
SELECT
    keys.key,
    hashtext(keys.key) AS hash,
    pg_try_advisory_lock_shared($2, hashtext(keys.key)) AS watched
FROM unnest($1::text[]) AS keys (key)
