-- Tells whether a key has a live grant.
--
-- In:  ?1 key, ?2 grace in ms
-- Out: one row (locked: 0 or 1)
SELECT EXISTS (
    SELECT 1 FROM syncguard_locks
    WHERE key = ?1
        AND expires_at_ms > CAST(round(unixepoch('subsec') * 1000) AS INTEGER) - ?2
) AS locked
