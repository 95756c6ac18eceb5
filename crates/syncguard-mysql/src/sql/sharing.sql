-- Reads the holders in shared mode from a row of a table that has the columns of shared mode.
--
-- In:  nothing; the row is named `locks`
-- Out: expressions: holders: NULL if the row is not shared; permits
IF(LENGTH(locks.lock_id) = {head_bytes}, COALESCE(locks.holders, ''), NULL) AS holders, locks.permits
