-- Guarantees that no grant exists under an id, now or in the future, and notifies the waiters of its key.
--
-- In:  $1 lock id, $2 key of the tombstone, $3 key as stored, $4 channel,
--      $5 class of the advisory locks of waiters, $6 grace in ms
-- Out: one row: own_transaction
--
-- The row of the id is moved from its key to the key of the tombstone, which is too long to be the key of any
-- user. If the id has no row, the tombstone is inserted. Before, a function ends a shared grant or an
-- announcement of the id (see `schema_leave.sql`). See `release.rs` for why no grant escapes this.
WITH departed AS MATERIALIZED (
    SELECT {abandon_shared} WHERE {own_transaction}
),
marked AS (
    INSERT INTO {locks} AS locks (
        key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key
    )
    SELECT
        $2,
        $1,
        0,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        lpad('0', 15, '0'),
        $2
    FROM departed
    ON CONFLICT (lock_id) DO UPDATE SET
        key = excluded.key,
        expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms,
        user_key = excluded.user_key{owner_cleared}{head_key_cleared}
    WHERE {is_not_head}
    RETURNING
        CASE WHEN NOT pg_try_advisory_xact_lock($5, hashtext($3) & 255)
            OR EXISTS (SELECT FROM pg_listening_channels())
            THEN pg_notify($4, hashtext($3)::text)::text
        END
)
SELECT
    {own_transaction} AS own_transaction,
    EXISTS (SELECT FROM marked) AS marked
