-- Forgets some ids that were abandoned so long ago that no acquire of them can be in flight.
--
-- In:  ?1 how many
-- Out: nothing
DELETE FROM syncguard_abandoned
WHERE lock_id IN (
    SELECT lock_id FROM syncguard_abandoned
    WHERE until_ms <= CAST(round(unixepoch('subsec') * 1000) AS INTEGER)
    ORDER BY until_ms
    LIMIT ?1
)
