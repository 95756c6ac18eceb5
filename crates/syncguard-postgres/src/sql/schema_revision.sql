-- Creates the table that says the revision of the other two, and which clients may use them.
--
-- In:  nothing
-- Out: nothing
--
-- One row: the revision, and the least revision that a client must know, which is called `version`. The tables
-- of a TypeScript client, which makes no such row, are of revision 1. Everyone who may connect may read the
-- row, so that no role needs another right because of it.
CREATE TABLE IF NOT EXISTS {schema} (
    id bigint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL,
    revision bigint NOT NULL
);

GRANT SELECT ON {schema} TO PUBLIC;

INSERT INTO {schema} AS stored (id, version, revision) VALUES (1, 1, 2)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision
WHERE stored.revision < excluded.revision;
