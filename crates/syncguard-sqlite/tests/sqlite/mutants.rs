//! Records that nothing of ours has written.

/// The tables without types and constraints, so that any value can be stored in any column.
pub(crate) const LOOSE_TABLES: &str = "
    CREATE TABLE syncguard_schema (id INTEGER PRIMARY KEY, version);
    INSERT INTO syncguard_schema VALUES (1, 1);
    CREATE TABLE syncguard_locks (
        key PRIMARY KEY NOT NULL, fence, lock_id, owner, acquired_at_ms, expires_at_ms
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX syncguard_locks_by_id
        ON syncguard_locks (lock_id) WHERE lock_id IS NOT NULL;
    CREATE TABLE syncguard_abandoned (lock_id PRIMARY KEY NOT NULL, until_ms) WITHOUT ROWID;
    CREATE INDEX syncguard_abandoned_by_until ON syncguard_abandoned (until_ms)";
