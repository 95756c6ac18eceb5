-- Switches the database to a write-ahead log, which it then keeps.
--
-- In:  nothing
-- Out: one row (journal_mode), not `wal` if the file system does not support it
PRAGMA journal_mode = WAL
