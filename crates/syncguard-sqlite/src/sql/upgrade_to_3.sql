-- Upgrades the schema from revision 2 to 3 and ends the transaction. Clients that know only an earlier revision
-- keep working together with those that know 3: to them, a key that is shared is held under the id of its head.
-- The tables are explained in `schema.sql`.
--
-- In:  nothing
-- Out: nothing
CREATE TABLE syncguard_holders (
    lock_id TEXT PRIMARY KEY NOT NULL,
    head TEXT NOT NULL,
    permits INTEGER,
    fence INTEGER NOT NULL,
    owner TEXT,
    acquired_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX syncguard_holders_by_head ON syncguard_holders (head);

CREATE TABLE syncguard_announcements (
    key TEXT PRIMARY KEY NOT NULL,
    lock_id TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    fence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX syncguard_announcements_by_until ON syncguard_announcements (until_ms);

UPDATE syncguard_schema SET revision = 3 WHERE id = 1;

COMMIT;
