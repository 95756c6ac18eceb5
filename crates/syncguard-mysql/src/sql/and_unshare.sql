-- Clears what a row has of shared mode, whose grants have ended.
--
-- In:  nothing
-- Out: more assignments
, shared_id = NULL, permits = NULL, holders = NULL
