-- Reads the version of the SyncGuard schema that the database holds.
--
-- In:  nothing
-- Out: one row (version, and from revision 2 on revision)
SELECT * FROM syncguard_schema WHERE id = 1
