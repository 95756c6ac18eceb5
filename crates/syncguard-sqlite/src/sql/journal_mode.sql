-- Switches the database to a write-ahead log, which it then keeps.
--
-- In:  nothing
-- Out: one row (journal_mode), not `wal` where the file system cannot do it
PRAGMA journal_mode = WAL
