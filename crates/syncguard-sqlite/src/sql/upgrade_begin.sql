-- Begins an upgrade: takes the write lock, so that of many processes that come at once one upgrades.
--
-- In:  nothing
-- Out: nothing
BEGIN IMMEDIATE
