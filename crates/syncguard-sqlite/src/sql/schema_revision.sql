-- Reads the revision of the SyncGuard schema in the database.
--
-- In:  nothing
-- Out: one row (revision)
SELECT revision FROM syncguard_schema WHERE id = 1
