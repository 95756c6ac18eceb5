-- Begins an upgrade. It takes the write lock, so that of many processes that start at the same time, only one
-- upgrades.
--
-- In:  nothing
-- Out: nothing
BEGIN IMMEDIATE
