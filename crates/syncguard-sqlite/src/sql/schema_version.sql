-- Reads which revision of the SyncGuard schema a client must know at least. The columns are named, because
-- another process may add one while this runs.
--
-- In:  nothing
-- Out: one row (version; has_revision: 0 or 1, which is whether the next column is there)
SELECT
    version,
    EXISTS (
        SELECT 1 FROM pragma_table_info('syncguard_schema') WHERE name = 'revision'
    ) AS has_revision
FROM syncguard_schema
WHERE id = 1
