-- Deletes some of the rows whose grants ended long ago. Fence counters stay.
--
-- In:  $1 minimum time since the end of a grant in ms, $2 minimum age of a tombstone in ms, $3 maximum length
--      of a user's key in bytes, $4 maximum number of rows to delete
-- Out: one row: own_transaction; deleted
--
-- The row of a shared holder never has an expiry of its own. It is kept as a tombstone is, and for as long as the
-- row of its key contains the holder. A row with an announcement is kept until the announcement has ended.
--
-- Rows that another client is changing are left to a later run, so this waits for no one.
WITH connection AS MATERIALIZED (
    SELECT
        {own_transaction} AS own_transaction,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
old AS MATERIALIZED (
    SELECT locks.key
    FROM {locks} AS locks
    WHERE (SELECT own_transaction FROM connection)
        AND locks.expires_at_ms <= (SELECT now_ms FROM connection) - $1
        AND (
            octet_length(locks.key) <= $3
            OR locks.acquired_at_ms <= (SELECT now_ms FROM connection) - greatest($1, $2)
        )
        AND {is_unused}
    LIMIT $4
    FOR UPDATE OF locks SKIP LOCKED
),
deleted AS (
    DELETE FROM {locks} AS locks
    USING old
    WHERE locks.key = old.key
        AND locks.expires_at_ms <= (SELECT now_ms FROM connection) - $1
    RETURNING locks.key
)
SELECT connection.own_transaction, (SELECT count(*) FROM deleted) AS deleted
FROM connection
