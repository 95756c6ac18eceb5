-- Reads live grants in the order of their keys, which is the order of the bytes. Includes grants whose expiry
-- cannot be read.
--
-- In:  ?1 grace in ms, ?2 first key of the range, ?3 first key beyond the range or NULL,
--      ?4 last key of the previous page or NULL, ?5 maximum number of rows
-- Out: rows (key, lock_id, fence, owner, acquired_at_ms, expires_at_ms, now_ms)
--
-- The index of ids yields only the keys that are held, which are then sorted. The table would yield every key
-- that was ever granted.
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
