-- Reads everything that is stored of a key, without taking the write lock.
--
-- In:  ?1 key, ?2 the id that requests it or NULL
-- Out: one row, or one row for each shared holder (now_ms; abandoned: 0 or 1; key, fence, lock_id, owner,
--      acquired_at_ms, expires_at_ms; the same of the holder with the prefix `holder_`, and holder_permits;
--      writer_id, writer_until_ms). The columns of the key are NULL if it was never granted, the last four of them
--      also if it was released; those of the holder are NULL if the key is not shared, those of the writer if none
--      has announced itself since the last grant.
SELECT
    clock.now_ms,
    EXISTS (SELECT 1 FROM syncguard_abandoned WHERE lock_id = ?2) AS abandoned,
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
    holders.expires_at_ms AS holder_expires_at_ms,
    writers.lock_id AS writer_id,
    writers.until_ms AS writer_until_ms
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
LEFT JOIN syncguard_locks AS locks ON locks.key = ?1
LEFT JOIN syncguard_holders AS holders ON holders.head = locks.lock_id
LEFT JOIN syncguard_announcements AS writers ON writers.key = ?1 AND writers.fence = locks.fence
