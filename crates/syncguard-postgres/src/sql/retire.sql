-- Deletes the fence counters of some keys that no one holds and that were not granted for a time, together with what
-- is left of their last grants.
--
-- In:  $1 key of the last counter that was examined before, or '', $2 how long a key must not have been granted in
--      ms, $3 lowest value of a counter that is deleted, $4 number of counters to examine
-- Out: one row: own_transaction; retired: the number of deleted counters; last: the key of the last counter that was
--      examined, NULL if there are no more
--
-- Each grant changes the counter to at least the server's time, and a counter is tested in its latest version, under
-- the lock of its row. Whoever was granted a key since this statement began has therefore made its counter too high.
-- Whoever grants it later waits for the row, and inserts the counter again. So the advisory locks of the keys are not
-- needed. Rows that another client is changing are left to a later run, so this waits for no one.
--
-- A counter stays for as long as the lock table has a row of its key: a counter below the fence of its key is
-- refused by every acquire.
WITH connection AS MATERIALIZED (
    SELECT
        {own_transaction} AS own_transaction,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
page AS MATERIALIZED (
    SELECT counters.fence_key
    FROM {counters} AS counters
    WHERE (SELECT own_transaction FROM connection) AND counters.fence_key > $1
    ORDER BY counters.fence_key
    LIMIT $4
),
old AS MATERIALIZED (
    SELECT counters.fence_key, substr(counters.fence_key, length('fence:') + 1) AS key
    FROM page
    JOIN {counters} AS counters ON counters.fence_key = page.fence_key
    WHERE counters.fence BETWEEN $3 AND (SELECT now_ms FROM connection) - $2
    FOR UPDATE OF counters SKIP LOCKED
),
ended AS MATERIALIZED (
    SELECT locks.key
    FROM old
    JOIN {locks} AS locks ON locks.key = old.key
    WHERE locks.expires_at_ms <= (SELECT now_ms FROM connection) - $2
        AND {is_unused}
    FOR UPDATE OF locks SKIP LOCKED
),
cleared AS (
    DELETE FROM {locks} AS locks
    USING ended
    WHERE locks.key = ended.key
        AND locks.expires_at_ms <= (SELECT now_ms FROM connection) - $2
    RETURNING locks.key
),
retired AS (
    DELETE FROM {counters} AS counters
    USING old
    WHERE counters.fence_key = old.fence_key
        AND (
            NOT EXISTS (SELECT FROM {locks} AS locks WHERE locks.key = old.key)
            OR old.key IN (SELECT cleared.key FROM cleared)
        )
    RETURNING counters.fence_key
)
SELECT
    connection.own_transaction,
    (SELECT count(*) FROM retired) AS retired,
    (SELECT max(page.fence_key) FROM page) AS last
FROM connection
