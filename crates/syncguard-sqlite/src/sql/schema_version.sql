-- Reads the version of the SyncGuard schema that the database holds.
--
-- In:  nothing
-- Out: one row (version)
SELECT version FROM syncguard_schema WHERE id = 1
