-- Settings of the transaction in which a statement runs on a connection whose session settings are
-- not ours: a connection of a caller's pool, or one behind a transaction pooler. It is sent before the
-- statement, in one text, which the server runs as one transaction.
--
-- In:  nothing
-- Out: no rows
--
-- The settings are separate statements because they must be in effect before the next statement is planned: a
-- statement waits for the locks of its tables, and takes its snapshot, before it evaluates anything.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout = {lock_timeout};
SET LOCAL statement_timeout = {statement_timeout};
SET LOCAL synchronous_commit = on;
