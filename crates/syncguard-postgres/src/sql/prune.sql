-- Deletes some of the rows whose grants are long over. Fence counters stay.
--
-- In:  $1 how long over in ms, $2 how old a mark of an abandoned id must be in ms, $3 longest key of
--      a user in bytes, $4 most rows to delete
-- Out: one row: sound; deleted
--
-- Rows that somebody is changing are left to the next time, so that this waits for nobody.
WITH connection AS MATERIALIZED (
    SELECT
        {sound} AS sound,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
old AS MATERIALIZED (
    SELECT locks.key
    FROM {locks} AS locks
    WHERE (SELECT sound FROM connection)
        AND locks.expires_at_ms <= (SELECT now_ms FROM connection) - $1
        AND (
            octet_length(locks.key) <= $3
            OR locks.acquired_at_ms <= (SELECT now_ms FROM connection) - greatest($1, $2)
        )
    LIMIT $4
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM {locks} AS locks
    USING old
    WHERE locks.key = old.key
        AND locks.expires_at_ms <= (SELECT now_ms FROM connection) - $1
    RETURNING locks.key
)
SELECT connection.sound, (SELECT count(*) FROM deleted) AS deleted
FROM connection
