-- Reads live locks in the order of their keys, which is the order of the bytes. Includes locks whose expiry cannot
-- be read.
--
-- In:  ?1 grace in ms, ?2 first key of the range, ?3 first key beyond the range or NULL,
--      ?4 last key of the previous page or NULL, ?5 maximum number of keys
-- Out: for each key, rows as those of `id_state.sql`
--
-- The index of ids yields only the keys that are held, which are then sorted. The table would yield every key
-- that was ever granted.
WITH page AS MATERIALIZED (
    SELECT clock.now_ms, key, fence, lock_id, owner, acquired_at_ms, expires_at_ms
    FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
    CROSS JOIN syncguard_locks INDEXED BY syncguard_locks_by_id
    WHERE lock_id IS NOT NULL
        AND key >= ?2
        AND (?3 IS NULL OR key < ?3)
        AND (?4 IS NULL OR key > ?4)
        AND (expires_at_ms > clock.now_ms - ?1 OR typeof(expires_at_ms) <> 'integer')
    ORDER BY key
    LIMIT ?5
)
SELECT
    page.now_ms,
    page.key,
    page.fence,
    page.lock_id,
    page.owner,
    page.acquired_at_ms,
    page.expires_at_ms,
    holders.lock_id AS holder_id,
    holders.permits AS holder_permits,
    holders.fence AS holder_fence,
    holders.owner AS holder_owner,
    holders.acquired_at_ms AS holder_acquired_at_ms,
    holders.expires_at_ms AS holder_expires_at_ms
FROM page
LEFT JOIN syncguard_holders AS holders ON holders.head = page.lock_id
ORDER BY page.key
