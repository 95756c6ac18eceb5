-- Adds the columns that the TypeScript SyncGuard does not create: those of the owner and of shared mode.
--
-- In:  nothing
-- Out: nothing
--
-- A TypeScript client that runs meanwhile fails one acquire and one release on each of its connections,
-- with "cached plan must not change result type", because it reads all columns by prepared statements.
ALTER TABLE {locks}
    ADD COLUMN IF NOT EXISTS owner text,
    ADD COLUMN IF NOT EXISTS owner_lock_id text,
    ADD COLUMN IF NOT EXISTS shared_id text,
    ADD COLUMN IF NOT EXISTS permits bigint,
    ADD COLUMN IF NOT EXISTS holders jsonb,
    ADD COLUMN IF NOT EXISTS announced_by text,
    ADD COLUMN IF NOT EXISTS announced_until_ms bigint,
    ADD COLUMN IF NOT EXISTS head_key text;
