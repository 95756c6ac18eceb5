-- Ends an upgrade that another process has done.
--
-- In:  nothing
-- Out: nothing
ROLLBACK
