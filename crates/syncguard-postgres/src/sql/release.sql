-- Ends a live grant, in either mode, and notifies the waiters of its key. The fence stays.
--
-- In:  $1 lock id, $2 grace in ms, $3 channel, $4 class of the advisory locks of waiters
-- Out: one row: own_transaction; released
--
-- A client that waits holds the advisory lock of the class and the key's bucket, shared (see `listen_watch`).
-- If no client waits, this statement gets the lock, and holds it until it has committed. A client that starts
-- to wait meanwhile finds the lock taken; once it gets the lock, it finds the key free. If a client waits, or
-- another key of the bucket is being released, this statement notifies, first of all the first in line (see
-- `schema_line.sql`). A commit that notifies delays every
-- other commit that notifies. Therefore the statement does not notify if no client waits. A connection that
-- listens itself cannot tell whether only its own client waits, because its locks do not keep it from taking
-- another one, so its releases always notify.
--
-- A shared grant has no row that `released` deletes; a function ends it (see `schema_leave.sql`).
--
-- The commit does not wait for the disk. A crash of the server may restore the grant, for at most its ttl.
WITH released AS (
    DELETE FROM {locks} AS locks
    WHERE {own_transaction}
        AND locks.lock_id = $1
        AND {is_exclusive}
        AND locks.expires_at_ms
            > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2
    RETURNING
        CASE WHEN NOT pg_try_advisory_xact_lock($4, hashtext(locks.key) & 255)
            OR EXISTS (SELECT FROM pg_listening_channels())
            THEN pg_notify($3, {next_in_line})::text
        END
)
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    CASE WHEN EXISTS (SELECT FROM released) THEN true ELSE {leave_shared} END AS released
