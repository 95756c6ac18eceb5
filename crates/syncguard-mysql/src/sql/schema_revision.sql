-- Creates the table that records the revision of the lock table, and which clients may use it, and records
-- both. It can be run repeatedly, and by many clients at once.
--
-- In:  nothing
-- Out: nothing
--
-- It has one row: the revision, and the lowest revision that a client must know, in the column `version`. A
-- lock table without this row is of revision 1. The table may exist without the row, because each statement
-- commits by itself. It is then of revision 1 as well.
CREATE TABLE IF NOT EXISTS {schema} (
    id TINYINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL
) ENGINE = InnoDB;

-- This applies only to the next transaction. A server with a statement-based binary log rejects writes at a
-- lower isolation level.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

INSERT INTO {schema} (id, version, revision) VALUES (1, 1, 3)
ON DUPLICATE KEY UPDATE revision = GREATEST(revision, 3)
