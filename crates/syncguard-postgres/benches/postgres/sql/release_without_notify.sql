-- Ends a live grant like the backend's statement, without notifications.
--
-- In:  $1 lock id, $2 grace in ms, $3 and $4 unused
-- Out: one row: own_transaction; released
WITH released AS (
    DELETE FROM {locks} AS locks
    WHERE {own_transaction}
        AND locks.lock_id = $1
        AND locks.expires_at_ms
            > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2
    RETURNING CASE WHEN $4::integer = 0 THEN $3::text END
)
SELECT
    {own_transaction} AS own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    EXISTS (SELECT FROM released) AS released
