-- Creates the table that says the revision of the lock table, and which clients may use that, and records
-- both. It can be run again and again, and by many at once.
--
-- In:  nothing
-- Out: nothing
--
-- One row: the revision, and the least revision that a client must know, which is called `version`. A lock
-- table without this row is of revision 1. That the table is here and the row is not yet means no more: each
-- statement commits by itself.
CREATE TABLE IF NOT EXISTS {schema} (
    id TINYINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL
) ENGINE = InnoDB;

-- For the next transaction alone: a server whose binary log has single statements takes no write at a lower
-- level.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

INSERT INTO {schema} (id, version, revision) VALUES (1, 1, 2)
ON DUPLICATE KEY UPDATE revision = GREATEST(revision, 2)
