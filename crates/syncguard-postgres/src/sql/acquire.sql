-- Grants a key that nobody holds, or says who holds it.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms, $4 ttl in ms, $5 key of the fence counter,
--      $6 user key, $7 owner or NULL, $8 fence limit, $9 lock timeout in ms, as text
-- Out: one row: that of `stand`; the grant (granted_fence, granted_expires_at_ms), if it was made. If
--      neither stands in the way nor was made, the key changed hands meanwhile.
--      An error: that the counter would be NULL, if it is none or stands at its limit; that the id is
--      not unique, if it was abandoned or stands with another key.
--
-- A statement sees the database as it was when it began, and `turn` may wait. So what `stand` finds
-- only saves a write: that nobody holds the key is decided by the WHERE of the last upsert, which
-- sees the latest version of the row. A client that upserts without that condition takes the same
-- advisory lock, so it is either done before `turn` or has not begun.
WITH stand AS MATERIALIZED (
    {stand}
),
turn AS MATERIALIZED (
    -- From left to right: the timeout counts for the wait behind it.
    SELECT
        set_config('lock_timeout', $9, true),
        set_config('synchronous_commit', 'on', true),
        pg_advisory_xact_lock(hashtext($1))
    FROM stand
    WHERE stand.sound AND stand.lock_id IS NULL
),
counted AS (
    -- The clock is read after the waiting, in RETURNING. A counter that cannot be counted up would
    -- become NULL, which its column refuses.
    INSERT INTO {counters} AS counters (fence_key, fence, key_debug)
    SELECT $5, 1, $6 FROM turn
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
    SELECT $1, $2, now_ms + $4, now_ms, lpad(fence::text, 15, '0'), $6, $7, $2 FROM counted
    ON CONFLICT (key) DO UPDATE SET
        lock_id = excluded.lock_id,
        expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms,
        fence = excluded.fence,
        user_key = excluded.user_key,
        owner = excluded.owner,
        owner_lock_id = excluded.owner_lock_id
    WHERE locks.expires_at_ms <= excluded.acquired_at_ms - $3
        AND locks.lock_id <> excluded.lock_id
    RETURNING locks.fence, locks.expires_at_ms
)
SELECT
    stand.*,
    granted.fence AS granted_fence,
    granted.expires_at_ms AS granted_expires_at_ms
FROM stand
LEFT JOIN granted ON true
