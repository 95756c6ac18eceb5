-- Begins each text that creates or changes tables: limits its waiting, and queues behind the others.
--
-- In:  nothing
-- Out: nothing
--
-- To be run in one transaction with what follows, as PostgreSQL does with a text of several statements.
--
-- A statement that changes a table waits until every transaction that reads the table has ended, and
-- whoever comes later waits behind it. So it gives up soon, and the whole text with it. The wait for
-- other texts like this one keeps no reader or writer out, and may take longer.
SET LOCAL statement_timeout = {statement_timeout};
SET LOCAL lock_timeout = {lock_timeout};
SELECT pg_advisory_xact_lock(hashtext('syncguard schema'));
SET LOCAL lock_timeout = {schema_lock_timeout};
