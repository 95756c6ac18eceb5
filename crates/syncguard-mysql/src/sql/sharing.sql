-- Reads the holders in shared mode from a row of a table that has the columns of shared mode.
--
-- In:  nothing; the row is named `locks`
-- Out: expressions: holders: NULL if the row is not shared; permits
IF(locks.shared_id = locks.lock_id, COALESCE(locks.holders, ''), NULL) AS holders, locks.permits
