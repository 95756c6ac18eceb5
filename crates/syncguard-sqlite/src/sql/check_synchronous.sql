-- Reads when this connection waits for the disk.
--
-- In:  nothing
-- Out: one row (synchronous): 0 off, 1 normal, 2 full, 3 extra
PRAGMA synchronous
