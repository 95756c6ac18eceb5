-- Grants a key that nobody holds, or says who holds it.
--
-- In:  $1 key as stored, $2 lock id, $3 ttl in ms, $4 key of the fence counter, $5 user key,
--      $6 owner or NULL, $7 grace in ms, $8 fence limit, $9 lock timeout in ms, as text
-- Out: one row: sound; refused, if the id stands with another key or was abandoned; the row that
--      stands in the way (held_…, now_ms), if it is live or the id's own; the grant (fence,
--      expires_at_ms), if it was made. With none of these, the key changed hands meanwhile.
--      An error: that the counter would be NULL, if it is none or stands at its limit; that the id is
--      not unique, if it was abandoned meanwhile.
--
-- A statement sees the database as it was when it began, and `turn` may wait. So what `stand` finds
-- only saves a write: that nobody holds the key is decided by the WHERE of the last upsert, which
-- sees the latest version of the row. A client that upserts without that condition takes the same
-- advisory lock, so it is either done before `turn` or has not begun.
WITH stand AS MATERIALIZED (
    SELECT
        {sound} AS sound,
        EXISTS (
            SELECT FROM {locks} AS named WHERE named.lock_id = $2 AND named.key <> $1
        ) AS refused,
        held.lock_id,
        held.fence,
        held.expires_at_ms,
        CASE WHEN held.owner_lock_id = held.lock_id THEN held.owner END AS owner,
        clock.now_ms
    FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
    LEFT JOIN {locks} AS held
        ON held.key = $1 AND (held.expires_at_ms > clock.now_ms - $7 OR held.lock_id = $2)
),
turn AS MATERIALIZED (
    -- From left to right: the timeout counts for the wait behind it.
    SELECT
        set_config('lock_timeout', $9, true),
        set_config('synchronous_commit', 'on', true),
        pg_advisory_xact_lock(hashtext($1))
    FROM stand
    WHERE stand.sound AND NOT stand.refused AND stand.lock_id IS NULL
),
counted AS (
    -- The clock is read after the waiting, in RETURNING. A counter that cannot be counted up would
    -- become NULL, which its column refuses.
    INSERT INTO {counters} AS counters (fence_key, fence, key_debug)
    SELECT $4, 1, $5 FROM turn
    ON CONFLICT (fence_key) DO UPDATE SET fence =
        CASE WHEN counters.fence >= 0 AND counters.fence < $8 THEN counters.fence + 1 END
    RETURNING
        counters.fence,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
granted AS (
    INSERT INTO {locks} AS locks (
        key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key, owner, owner_lock_id
    )
    SELECT $1, $2, now_ms + $3, now_ms, lpad(fence::text, 15, '0'), $5, $6, $2 FROM counted
    ON CONFLICT (key) DO UPDATE SET
        lock_id = excluded.lock_id,
        expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms,
        fence = excluded.fence,
        user_key = excluded.user_key,
        owner = excluded.owner,
        owner_lock_id = excluded.owner_lock_id
    WHERE locks.expires_at_ms <= excluded.acquired_at_ms - $7
        AND locks.lock_id <> excluded.lock_id
    RETURNING locks.fence, locks.expires_at_ms
)
SELECT
    stand.sound,
    stand.refused,
    stand.lock_id AS held_lock_id,
    stand.fence AS held_fence,
    stand.expires_at_ms AS held_expires_at_ms,
    stand.owner AS held_owner,
    stand.now_ms,
    granted.fence,
    granted.expires_at_ms
FROM stand
LEFT JOIN granted ON true
