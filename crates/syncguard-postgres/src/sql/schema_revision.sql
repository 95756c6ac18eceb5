-- Creates the table that records the revision of the other two, and which clients may use them.
--
-- In:  nothing
-- Out: nothing
--
-- It has one row: the revision, and the lowest revision that a client must know, in the column `version`. The
-- tables of a TypeScript client, which creates no such row, are of revision 1. Everyone who can connect can
-- read the row, so that no role needs an additional privilege for it.
CREATE TABLE IF NOT EXISTS {schema} (
    id bigint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL,
    revision bigint NOT NULL
);

GRANT SELECT ON {schema} TO PUBLIC;

INSERT INTO {schema} AS stored (id, version, revision) VALUES (1, 1, 3)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision
WHERE stored.revision < excluded.revision;
