-- A file that was created by clients that know only revision 1: a key that was released, one that is held,
-- and one whose grant expired unreleased.
CREATE TABLE IF NOT EXISTS syncguard_schema (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
) STRICT;

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

CREATE UNIQUE INDEX IF NOT EXISTS syncguard_locks_by_id
    ON syncguard_locks (lock_id) WHERE lock_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS syncguard_abandoned (
    lock_id TEXT PRIMARY KEY NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS syncguard_abandoned_by_until ON syncguard_abandoned (until_ms);

INSERT INTO syncguard_schema (id, version) VALUES (1, 1);

INSERT INTO syncguard_locks VALUES
    ('released', 41, NULL, NULL, NULL, NULL),
    ('held', 7, 'AAAAAAAAAAAAAAAAAAAAAA', 'web-3', 1763640000000, 4102444800000),
    ('expired', 3, 'BBBBBBBBBBBBBBBBBBBBBA', NULL, 1763640000000, 1763640030000);
