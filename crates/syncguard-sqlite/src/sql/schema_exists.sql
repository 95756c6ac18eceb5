-- Returns whether the database has a SyncGuard schema.
--
-- In:  nothing
-- Out: one row (found: 0 or 1)
SELECT EXISTS (
    SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'syncguard_schema'
) AS found
