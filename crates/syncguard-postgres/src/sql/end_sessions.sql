-- Ends sessions, including a session that waits for a standby in the middle of its commit. That commit is kept.
--
-- In:  $1 pids, $2 the start time of each session, in microseconds
-- Out: a row for each session that still exists: pid
SELECT activity.pid, pg_terminate_backend(activity.pid) AS asked
FROM unnest($1::integer[], $2::bigint[]) AS session (pid, started)
JOIN pg_stat_activity AS activity
    ON activity.pid = session.pid
    AND (extract(epoch FROM activity.backend_start) * 1000000)::bigint = session.started
