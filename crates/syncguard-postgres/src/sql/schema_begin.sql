-- Begins each text that creates or changes tables: limits its waits, and queues behind other such texts.
--
-- In:  nothing
-- Out: nothing
--
-- It must run in one transaction with what follows, as PostgreSQL does with a text of several statements.
--
-- A statement that changes a table waits until every transaction that reads the table has ended, and all later
-- users of the table wait behind it. Therefore it soon gives up, and the whole text with it. The wait for
-- other such texts blocks no reader or writer, and may take longer.
SET LOCAL statement_timeout = {statement_timeout};
SET LOCAL lock_timeout = {lock_timeout};
SELECT pg_advisory_xact_lock(hashtext('syncguard schema'));
SET LOCAL lock_timeout = {schema_lock_timeout};
