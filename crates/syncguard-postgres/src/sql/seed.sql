-- Raises the fence counter of a key that no one holds to the server's time, so that the fences of the statement that
-- follows are at least that: part of an acquire in shared mode if counters are seeded.
--
-- In:  $1 key as stored, $5 grace in ms, $6 key of the fence counter, $7 user key
-- Out: no rows; another statement of the same text follows, and returns own_transaction
--
-- It queues for the advisory lock of the key, under which the counter is changed, as the statement that follows
-- would. If the key is held, it writes nothing and waits for no one. A counter that is not one stays as it is.
WITH turn AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtext($1))::text AS taken
    FROM (SELECT) AS connection
    WHERE {own_transaction}
        AND NOT EXISTS (
            SELECT FROM {locks} AS locks
            WHERE locks.key = $1
                AND locks.expires_at_ms
                    > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $5
        )
)
INSERT INTO {counters} AS counters (fence_key, fence, key_debug)
SELECT $6, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1, $7
FROM turn
ON CONFLICT (fence_key) DO UPDATE SET fence = excluded.fence
WHERE counters.fence >= 0 AND counters.fence < excluded.fence
