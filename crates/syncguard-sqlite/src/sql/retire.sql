-- Deletes keys that no one holds and no writer has announced itself for, and that were not granted for a time, with
-- their fence counters.
--
-- In:  ?1 last key of the previous step, '' at first, ?2 last key of this one, ?3 how long a key must not have been
--      granted in ms, ?4 lowest fence of a key that is deleted
-- Out: one row (key) for each of them
--
-- A seeded fence is at least the time of the last grant. Rows that cannot be read stay. Holders of a head that is gone
-- hold nothing, and are removed as those of a cleared head are.
WITH clock (now_ms) AS (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER))
DELETE FROM syncguard_locks
WHERE key > ?1 AND key <= ?2
    AND typeof(fence) = 'integer'
    AND fence BETWEEN ?4 AND (SELECT now_ms FROM clock) - ?3
    AND (
        lock_id IS NULL
        OR typeof(expires_at_ms) = 'integer' AND expires_at_ms <= (SELECT now_ms FROM clock) - ?3
    )
    AND NOT EXISTS (
        SELECT 1 FROM syncguard_announcements AS writers
        WHERE writers.key = syncguard_locks.key
            AND writers.fence = syncguard_locks.fence
            AND writers.until_ms > (SELECT now_ms FROM clock)
    )
RETURNING key
