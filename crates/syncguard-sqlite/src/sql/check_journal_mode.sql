-- Reads how the database is journalled.
--
-- In:  nothing
-- Out: one row (journal_mode)
PRAGMA journal_mode
