-- Ends the live grants of a key, whoever holds it, and its announcement, and notifies the waiters. The fence
-- counter stays. A record whose fence cannot be read is deleted even if it has expired, because it keeps the
-- key from being granted.
--
-- In shared mode, the row of the key counts the holders. Without it they hold nothing. Their own rows are left
-- to their releases, or to be pruned.
--
-- In:  $1 key as stored, $2 grace in ms, $3 channel, $4 class of the advisory locks of waiters
-- Out: one row: own_transaction; the lock before it was ended (key, user_key, lock_id, fence, owner,
--      acquired_at_ms, expires_at_ms, shared, now_ms), all NULL if the key was free
WITH released AS (
    DELETE FROM {locks} AS locks
    WHERE {own_transaction}
        AND locks.key = $1
        AND (
            locks.expires_at_ms
                > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2
            OR {is_announced}
            OR length(locks.fence) <> 15
            OR locks.fence ~ '[^0-9]'
        )
    RETURNING
        CASE WHEN NOT pg_try_advisory_xact_lock($4, hashtext(locks.key) & 255)
            OR EXISTS (SELECT FROM pg_listening_channels())
            THEN pg_notify($3, hashtext(locks.key)::text)::text
        END AS told,
        locks.key,
        locks.user_key,
        locks.lock_id,
        locks.fence,
        {owner} AS owner,
        {shared} AS shared,
        locks.acquired_at_ms,
        locks.expires_at_ms,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
)
SELECT
    {own_transaction} AS own_transaction,
    released.*
FROM (SELECT) AS connection
LEFT JOIN released ON true
