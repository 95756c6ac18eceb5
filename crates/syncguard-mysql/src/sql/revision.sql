-- Reads the revision of the lock table, and which clients may use it.
--
-- In:  nothing
-- Out: a row if they are recorded: version: the lowest revision that a client must know; revision.
--      An error if the table does not exist, or the user may not read it.
SELECT version, revision FROM {schema} WHERE id = 1
