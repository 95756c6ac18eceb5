-- Identifies the session of the connection.
--
-- In:  nothing
-- Out: one row: pid; started: its start time, in microseconds
--
-- The function is what the view `pg_stat_activity` is made of, without its joins, which take a new connection
-- a millisecond.
SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS started
FROM pg_stat_get_activity(pg_backend_pid())
