-- Reads the revision of the SyncGuard schema that the database holds.
--
-- In:  nothing
-- Out: one row (revision)
SELECT revision FROM syncguard_schema WHERE id = 1
