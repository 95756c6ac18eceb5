-- Ends a live grant, and tells those who wait for its key. The fence stays.
--
-- In:  $1 lock id, $2 grace in ms, $3 channel, $4 class of the advisory locks of waiters
-- Out: one row: sound; released
--
-- Whoever waits holds the advisory lock of the class and the key, shared. Where nobody does, the
-- statement gets it and keeps it until it has committed, so that one who comes to wait from now on
-- finds it taken, and the key free once it is not. Where somebody does, it tells. A commit that
-- tells holds up every other one that does; that is why nothing is told where nobody waits.
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
        CASE WHEN NOT pg_try_advisory_xact_lock($4, hashtext(locks.key))
            THEN pg_notify($3, hashtext(locks.key)::text)::text
        END
)
SELECT
    {sound} AS sound,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    EXISTS (SELECT FROM released) AS released
