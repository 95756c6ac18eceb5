-- Clears what a row has of shared mode, whose grants have ended.
--
-- In:  nothing
-- Out: more assignments
, permits = NULL, holders = NULL
