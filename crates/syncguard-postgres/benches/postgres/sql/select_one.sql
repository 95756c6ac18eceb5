-- Does nothing.
--
-- In:  nothing
-- Out: one row
SELECT 1
