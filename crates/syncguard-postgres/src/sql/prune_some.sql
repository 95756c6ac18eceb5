-- Deletes some of the rows whose grants ended long ago. Fence counters stay. So do rows that cannot be read,
-- rows whose fence is above the counter, rows whose counter is missing or at its limit, and what `prune` keeps
-- of shared mode. A row with fence 0, of a claim or of an abandoned id, may lack a counter.
--
-- In:  $1 lock id, $2 minimum time since the end of a grant in ms, $3 number of rows to examine, $4 fence limit
-- Out: one row: own_transaction; deleted
--
-- It examines only the rows with the ids that follow the given id. Rows that another client is changing are
-- left alone, so this waits for no one. The commit does not wait for the disk.
WITH connection AS MATERIALIZED (
    SELECT
        {own_transaction} AS own_transaction,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
seen AS MATERIALIZED (
    SELECT locks.key
    FROM {locks} AS locks
    WHERE (SELECT own_transaction FROM connection) AND locks.lock_id > $1
    ORDER BY locks.lock_id
    LIMIT $3
),
old AS MATERIALIZED (
    SELECT locks.key
    FROM seen
    JOIN {locks} AS locks ON locks.key = seen.key
    WHERE length(locks.lock_id) = 22 AND locks.lock_id !~ '[^0-9A-Za-z_-]'
        AND locks.expires_at_ms <= (SELECT now_ms FROM connection) - $2
        AND locks.acquired_at_ms <= (SELECT now_ms FROM connection) - $2
        AND CASE
            WHEN length(locks.fence) <> 15 OR locks.fence ~ '[^0-9]' THEN false
            WHEN locks.fence::bigint = 0 AND NOT EXISTS (
                SELECT
                FROM {counters} AS counters
                WHERE counters.fence_key = 'fence:' || coalesce({head_key}, locks.key)
            ) THEN true
            ELSE locks.fence::bigint <= (
                SELECT counters.fence
                FROM {counters} AS counters
                WHERE counters.fence_key = 'fence:' || coalesce({head_key}, locks.key)
                    AND counters.fence < $4
            )
        END
        AND {is_unused}
    FOR UPDATE OF locks SKIP LOCKED
),
deleted AS (
    DELETE FROM {locks} AS locks
    USING old
    WHERE locks.key = old.key
        AND locks.expires_at_ms <= (SELECT now_ms FROM connection) - $2
    RETURNING locks.key
)
SELECT
    connection.own_transaction,
    set_config('synchronous_commit', 'off', true) AS synchronous_commit,
    (SELECT count(*) FROM deleted) AS deleted
FROM connection
