-- Adds the columns that the TypeScript SyncGuard does not create.
--
-- In:  nothing
-- Out: nothing
--
-- A TypeScript client that runs meanwhile fails one acquire and one release on each of its connections,
-- with "cached plan must not change result type", because it reads all columns by prepared statements.
ALTER TABLE {locks}
    ADD COLUMN IF NOT EXISTS owner text,
    ADD COLUMN IF NOT EXISTS owner_lock_id text;
