-- Identifies the session of the connection.
--
-- In:  nothing
-- Out: one row: pid; started: its start time, in microseconds
SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS started
FROM pg_stat_activity
WHERE pid = pg_backend_pid()
