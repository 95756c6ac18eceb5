-- Reads the lowest revision of the SyncGuard schema that a client must know. The columns are named, because
-- another process may add one while this runs.
--
-- In:  nothing
-- Out: one row (version; has_revision: 0 or 1, whether the table has the column `revision`)
SELECT
    version,
    EXISTS (
        SELECT 1 FROM pragma_table_info('syncguard_schema') WHERE name = 'revision'
    ) AS has_revision
FROM syncguard_schema
WHERE id = 1
