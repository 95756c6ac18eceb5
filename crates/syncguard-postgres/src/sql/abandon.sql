-- Makes sure that no grant under an id exists now or later, and tells those who wait for its key.
--
-- In:  $1 lock id, $2 key of the mark, $3 key as stored, $4 channel,
--      $5 class of the advisory locks of waiters
-- Out: one row: sound
--
-- The row of the id is moved from its key to that of the mark, which is too long to be anybody's
-- key; where there is none yet, the mark is made. See `release.rs` for why nothing slips through.
WITH marked AS (
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
    WHERE {sound}
    ON CONFLICT (lock_id) DO UPDATE SET
        key = excluded.key,
        expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms,
        user_key = excluded.user_key{owner_cleared}
    RETURNING
        CASE WHEN NOT pg_try_advisory_xact_lock($5, hashtext($3) & 255)
            THEN pg_notify($4, hashtext($3)::text)::text
        END
)
SELECT
    {sound} AS sound,
    EXISTS (SELECT FROM marked) AS marked
