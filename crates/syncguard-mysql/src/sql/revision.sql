-- Reads the revision of the lock table, and which clients may use that.
--
-- In:  nothing
-- Out: a row if they are recorded: version: the least revision that a client must know; revision.
--      An error: that there is no such table, or that the user may not read it.
SELECT version, revision FROM {schema} WHERE id = 1
