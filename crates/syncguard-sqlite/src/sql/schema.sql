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

-- One row per key, until its counter is retired. It is both the lock and the fence counter. A key that was not granted since its
-- last release has NULL in all columns after the fence.
--
-- While a key is shared, this row is its head: `lock_id` is an id that holds nothing, `expires_at_ms` is the latest
-- expiry of the holders, `owner` is NULL. Clients that know only revision 2 therefore find the key held.
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

-- One row per shared grant. It counts for as long as `head` is the lock id of a key in `syncguard_locks`: whatever
-- replaces or clears the head, by whichever client, ends all grants below it. A head has a new id each time, so
-- they never come back. `permits` is the same in all rows of a head; NULL stands for any number.
CREATE TABLE IF NOT EXISTS syncguard_holders (
    lock_id TEXT PRIMARY KEY NOT NULL,
    head TEXT NOT NULL,
    permits INTEGER,
    fence INTEGER NOT NULL,
    owner TEXT,
    acquired_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS syncguard_holders_by_head ON syncguard_holders (head);

-- At most one row per key: a writer that waits for it. It counts for as long as `fence` is that of the key. While
-- the announcement stands, only an exclusive grant increments that fence, so any exclusive grant ends the
-- announcement, and has nothing to delete.
CREATE TABLE IF NOT EXISTS syncguard_announcements (
    key TEXT PRIMARY KEY NOT NULL,
    lock_id TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    fence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS syncguard_announcements_by_until ON syncguard_announcements (until_ms);

INSERT INTO syncguard_schema (id, version, revision) VALUES (1, 1, 3) ON CONFLICT (id) DO NOTHING;

COMMIT;
