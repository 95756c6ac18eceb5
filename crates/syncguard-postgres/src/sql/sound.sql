-- Tells whether the statement that this stands in runs in a transaction of its own, and not in one that
-- somebody has left open on the connection.
--
-- In:  nothing
-- Out: a condition
transaction_timestamp() = coalesce(
    (SELECT creation_time FROM pg_cursors WHERE name = ''), statement_timestamp()
)
