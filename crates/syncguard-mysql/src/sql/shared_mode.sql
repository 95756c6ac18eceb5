-- Reads from a row whether it is shared, which costs less than to read the holders.
--
-- In:  nothing; the row is named `locks`
-- Out: an expression: shared: the number of permits, 0 for any number, NULL if the row is not shared
CAST(IF(locks.shared_id = locks.lock_id, COALESCE(locks.permits, 0), NULL) AS SIGNED) AS shared
