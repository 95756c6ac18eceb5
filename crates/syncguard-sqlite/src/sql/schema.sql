-- Creates the parts of the schema that are missing, in one transaction.
--
-- In:  nothing
-- Out: nothing
--
-- Run on a connection of its own, which is discarded unless the transaction succeeded. BEGIN IMMEDIATE waits
-- for the write lock before it reads, so of many processes that start at the same time, one creates the
-- tables and the others find them.
BEGIN IMMEDIATE;

-- One row: the revision of these tables, and the lowest revision that a client must know to use them. The
-- latter is called `version` because clients that know only revision 1 refuse a greater value there.
-- `user_version` would be simpler, but in a database that is shared with an application it belongs to the
-- application.
CREATE TABLE IF NOT EXISTS syncguard_schema (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 1
) STRICT;

-- One row per key, forever. It is both the lock and the fence counter. A key that was not granted since its
-- last release has NULL in all columns after the fence.
CREATE TABLE IF NOT EXISTS syncguard_locks (
    key TEXT PRIMARY KEY NOT NULL,
    fence INTEGER NOT NULL,
    lock_id TEXT,
    owner TEXT,
    acquired_at_ms INTEGER,
    expires_at_ms INTEGER,
    CHECK ((lock_id IS NULL) = (expires_at_ms IS NULL)),
    CHECK ((lock_id IS NULL) = (acquired_at_ms IS NULL))
) STRICT, WITHOUT ROWID;

-- It contains only keys that are held, so listing them does not read released keys. A key whose grant expired
-- unreleased stays in it until a client that writes finds it; see `prune_expired.sql`.
CREATE UNIQUE INDEX IF NOT EXISTS syncguard_locks_by_id
    ON syncguard_locks (lock_id) WHERE lock_id IS NOT NULL;

-- Tombstones: ids under which nothing must be granted any more.
CREATE TABLE IF NOT EXISTS syncguard_abandoned (
    lock_id TEXT PRIMARY KEY NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS syncguard_abandoned_by_until ON syncguard_abandoned (until_ms);

INSERT INTO syncguard_schema (id, version, revision) VALUES (1, 1, 2) ON CONFLICT (id) DO NOTHING;

COMMIT;
