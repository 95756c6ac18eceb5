-- Grants a key that no one holds, or returns who holds it.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms, $4 ttl in ms, $5 key of the fence counter,
--      $6 user key, $7 fence limit, $8 owner or NULL
-- Out: one row: that of `stand`; the grant (granted_fence, granted_expires_at_ms), if it was made. If
--      nothing stands in the way and no grant was made, another client is deciding, or has just
--      decided, who gets the key.
--      An error: that the counter would be NULL, if it is not a counter, stands at its limit, or does not
--      fit the fence on record; that the id is not unique, if it was abandoned or stands with another key.
--
-- Invariant: a grant is written under the advisory lock of the key, by a statement whose snapshot shows
-- every earlier grant. Clients that upsert without a condition take the same lock.
--
-- The lock is tried, not waited for. It is had at once where a statement before this one has taken it for
-- the transaction (see `queue`).
--
-- A snapshot is old if another client was granted the key between the snapshot and the advisory lock.
-- Each grant changes the counter, so the counter is compared with what the snapshot shows (`counted`),
-- in the latest version of its row. If it has changed, no fence is counted and nothing is granted. The
-- last upsert tests the latest version of the lock's row in the same way, because an extend does not
-- change the counter.
WITH stand AS MATERIALIZED (
    {stand}
),
turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtext($1)) AS taken
    FROM stand
    WHERE stand.sound AND stand.lock_id IS NULL
),
counted AS (
    -- A counter that cannot be increased becomes NULL, which its column refuses. So does one that is behind
    -- the fence of the key's last grant, or beside a fence that cannot be read.
    INSERT INTO {counters} AS counters (fence_key, fence, key_debug)
    SELECT
        $5,
        CASE
            WHEN length(past.fence) <> 15 OR past.fence ~ '[^0-9]' THEN NULL
            WHEN past.fence::bigint > coalesce(seen.fence, 0) THEN NULL
            WHEN seen.fence IS NULL THEN 1
            WHEN seen.fence >= 0 AND seen.fence < $7 THEN seen.fence + 1
        END,
        $6
    FROM turn
    LEFT JOIN {counters} AS seen ON seen.fence_key = $5
    LEFT JOIN {locks} AS past ON past.key = $1
    WHERE turn.taken
    ON CONFLICT (fence_key) DO UPDATE SET fence = excluded.fence
    WHERE counters.fence = excluded.fence - 1
    RETURNING
        counters.fence,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
granted AS (
    INSERT INTO {locks} AS locks (
        key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key{owner_columns}
    )
    SELECT $1, $2, now_ms + $4, now_ms, lpad(fence::text, 15, '0'), $6{owner_values} FROM counted
    ON CONFLICT (key) DO UPDATE SET
        lock_id = excluded.lock_id,
        expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms,
        fence = excluded.fence,
        user_key = excluded.user_key{owner_updates}
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
