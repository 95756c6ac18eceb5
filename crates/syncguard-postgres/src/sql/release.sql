-- Ends a live grant, and notifies those who wait for its key. The fence stays.
--
-- In:  $1 lock id, $2 grace in ms, $3 channel, $4 class of the advisory locks of waiters
-- Out: one row: sound; released
--
-- A client that waits holds the advisory lock of the class and the bucket of the key, shared (see
-- `listen_watch`). Where no client does, the statement gets it and keeps it until it has committed, so
-- that one that comes to wait from now on finds it taken, and the key free once it is not. Where a
-- client does, or another key of the bucket is being released, the statement notifies. A commit that
-- notifies holds up every other one that does; that is why it does not where no client waits.
--
-- The commit does not wait for the disk. A crash of the server may bring the grant back, for no
-- longer than its ttl.
WITH released AS (
    DELETE FROM {locks} AS locks
    WHERE {sound}
        AND locks.lock_id = $1
        AND locks.expires_at_ms
            > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2
    RETURNING
        CASE WHEN NOT pg_try_advisory_xact_lock($4, hashtext(locks.key) & 255)
            THEN pg_notify($3, hashtext(locks.key)::text)::text
        END
)
SELECT
    {sound} AS sound,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    EXISTS (SELECT FROM released) AS released
