-- Stores the tombstone of an id, so that no later acquire is granted under it.
--
-- In:  ?1 lock id, ?2 lifetime of the tombstone in ms
-- Out: nothing
INSERT INTO syncguard_abandoned (lock_id, until_ms)
VALUES (?1, CAST(round(unixepoch('subsec') * 1000) AS INTEGER) + ?2)
ON CONFLICT (lock_id) DO UPDATE SET until_ms = max(until_ms, excluded.until_ms)
