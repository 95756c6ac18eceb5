-- Reads live grants in the order of their keys, which is that of the bytes, and those of which it cannot
-- be told whether they are live.
--
-- In:  ?1 grace in ms, ?2 first key of the range, ?3 first key beyond the range or NULL,
--      ?4 last key of the page before or NULL, ?5 most rows to give
-- Out: rows (key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, now_ms)
--
-- Going by the index of ids reads the keys that are held and sorts them. Going by the table would
-- read every key that ever was.
SELECT key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, clock.now_ms
FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now_ms) AS clock
CROSS JOIN syncguard_locks INDEXED BY syncguard_locks_by_id
WHERE lock_id IS NOT NULL
    AND key >= ?2
    AND (?3 IS NULL OR key < ?3)
    AND (?4 IS NULL OR key > ?4)
    AND (expires_at_ms > clock.now_ms - ?1 OR typeof(expires_at_ms) <> 'integer')
ORDER BY key
LIMIT ?5
