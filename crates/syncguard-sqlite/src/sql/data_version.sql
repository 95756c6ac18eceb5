-- Reads a number that changes when another connection has committed to the database. Two readings
-- can be compared only if they were taken on one connection.
--
-- In:  nothing
-- Out: one row (data_version)
PRAGMA data_version
