-- Grants a key that no one holds, or returns its holder.
--
-- In:  $1 key as stored, $2 lock id, $3 grace in ms, $4 ttl in ms, $5 key of the fence counter,
--      $6 user key, $7 fence limit, $8 owner or NULL
-- Out: one row: the columns of `stand`; the grant (granted_fence, granted_expires_at_ms), if one was made. If
--      there is neither a holder nor a grant, another client is deciding, or has just decided, who gets the
--      key.
--      An error if the counter would be NULL: it is not a counter, is at its limit, or does not fit the fence
--      on record. An error if the id is not unique: it was abandoned, or holds another key.
--
-- Invariant: a grant is written under the advisory lock of the key, by a statement whose snapshot shows
-- every earlier grant. Clients that upsert without a condition take the same lock.
--
-- The statement tries the lock and does not wait for it. If a statement before this one has taken the lock for
-- the transaction (see `queue`), it gets the lock at once.
--
-- The snapshot is out of date if another client was granted the key between the snapshot and the advisory lock.
-- Each grant changes the counter. Therefore the latest version of the counter's row is compared with what the
-- snapshot shows (`counted`). If they differ, no fence is counted and nothing is granted. An extend does not
-- change the counter. Therefore the last upsert tests the latest version of the lock's row in the same way.
--
-- If counters are seeded, the fence is at least the server's time. The counter may have been retired between the
-- snapshot and the upsert, which then inserts it again. The fence is above what the snapshot shows, and no grant was
-- made since, because a counter is retired only if its key was not granted for a day.
--
-- A claim creates no counter. If its snapshot shows none, the grant is made under fence 0 (see `uncounted`). The
-- counter is not needed for that grant to be the only one. It is written under the advisory lock, and the last upsert
-- tests the latest version of the lock's row. If the row is gone, whoever had the key since the snapshot has released
-- it. If a counter was created and the key was released since the snapshot, the claim does not count, and no one is
-- given its fence; the next grant counts on from that counter.
--
-- A key in shared mode is held until the last of its holders expires, which is the expiry of its row. A grant
-- over such a row clears its holders and its announcement.
WITH stand AS MATERIALIZED (
    {stand}
),
turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtext($1)) AS taken
    FROM stand
    WHERE stand.own_transaction AND stand.lock_id IS NULL
),
counted AS (
    -- A counter that cannot be increased becomes NULL, which its column rejects. The same applies to a counter
    -- below the fence of the key's last grant, and to a counter of a key whose fence cannot be read.
    INSERT INTO {counters} AS counters (fence_key, fence, key_debug)
    SELECT
        $5,
        CASE
            WHEN length(past.fence) <> 15 OR past.fence ~ '[^0-9]' THEN NULL
            WHEN past.fence::bigint > coalesce(seen.fence, 0) THEN NULL
            WHEN seen.fence IS NULL THEN {first_fence}
            WHEN seen.fence >= 0 AND seen.fence < $7 THEN {next_fence}
        END,
        $6
    FROM turn
    LEFT JOIN {counters} AS seen ON seen.fence_key = $5
    LEFT JOIN {locks} AS past ON past.key = $1
    WHERE turn.taken{and_is_counted}
    ON CONFLICT (fence_key) DO UPDATE SET fence = excluded.fence
    WHERE counters.fence = {seen_fence}
    RETURNING
        counters.fence,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
),
granted AS (
    INSERT INTO {locks} AS locks (
        key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key{owner_columns}
    )
    SELECT $1, $2, now_ms + $4, now_ms, lpad(fence::text, 15, '0'), $6{owner_values} FROM {grants}
    ON CONFLICT (key) DO UPDATE SET
        lock_id = excluded.lock_id,
        expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms,
        fence = excluded.fence,
        user_key = excluded.user_key{owner_updates}{shared_cleared}
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
