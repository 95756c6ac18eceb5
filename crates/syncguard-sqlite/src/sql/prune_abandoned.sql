-- Removes some tombstones that are so old that no acquire of their ids can be in flight.
--
-- In:  ?1 maximum number of tombstones to remove
-- Out: nothing
DELETE FROM syncguard_abandoned
WHERE lock_id IN (
    SELECT lock_id FROM syncguard_abandoned
    WHERE until_ms <= CAST(round(unixepoch('subsec') * 1000) AS INTEGER)
    ORDER BY until_ms
    LIMIT ?1
)
