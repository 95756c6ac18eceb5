-- Forgets marks of `abandon` whose time is over.
--
-- In:  nothing
-- Out: nothing
DELETE FROM syncguard_abandoned
WHERE until_ms <= CAST(round(unixepoch('subsec') * 1000) AS INTEGER)
