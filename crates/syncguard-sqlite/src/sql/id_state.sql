-- Reads what is stored of the key that an id holds, in either mode, live or expired.
--
-- In:  ?1 lock id
-- Out: no row, or rows as those of `key_state.sql`, without `abandoned` and the writer
SELECT
    clock.now_ms,
    locks.key,
    locks.fence,
    locks.lock_id,
    locks.owner,
    locks.acquired_at_ms,
    locks.expires_at_ms,
    holders.lock_id AS holder_id,
    holders.permits AS holder_permits,
    holders.fence AS holder_fence,
    holders.owner AS holder_owner,
    holders.acquired_at_ms AS holder_acquired_at_ms,
    holders.expires_at_ms AS holder_expires_at_ms
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
CROSS JOIN syncguard_locks AS locks
LEFT JOIN syncguard_holders AS holders ON holders.head = locks.lock_id
WHERE locks.lock_id = coalesce(
    (
        SELECT held.head
        FROM syncguard_holders AS held
        JOIN syncguard_locks AS head ON head.lock_id = held.head
        WHERE held.lock_id = ?1
    ),
    ?1
)
