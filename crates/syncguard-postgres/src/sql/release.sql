-- Ends a live grant, and notifies the waiters of its key. The fence stays.
--
-- In:  $1 lock id, $2 grace in ms, $3 channel, $4 class of the advisory locks of waiters
-- Out: one row: own_transaction; released
--
-- A client that waits holds the advisory lock of the class and the key's bucket, shared (see `listen_watch`).
-- If no client waits, this statement gets the lock, and holds it until it has committed. A client that starts
-- to wait meanwhile finds the lock taken; once it gets the lock, it finds the key free. If a client waits, or
-- another key of the bucket is being released, this statement notifies. A commit that notifies delays every
-- other commit that notifies. Therefore the statement does not notify if no client waits.
--
-- The commit does not wait for the disk. A crash of the server may restore the grant, for at most its ttl.
WITH released AS (
    DELETE FROM {locks} AS locks
    WHERE {own_transaction}
        AND locks.lock_id = $1
        AND locks.expires_at_ms
            > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2
    RETURNING
        CASE WHEN NOT pg_try_advisory_xact_lock($4, hashtext(locks.key) & 255)
            THEN pg_notify($3, hashtext(locks.key)::text)::text
        END
)
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    EXISTS (SELECT FROM released) AS released
