-- Reads the settings on which promises rest, as a connection gets them that asks for none.
--
-- In:  nothing
-- Out: one row: sound; version, isolation, synchronous_commit, fsync, full_page_writes, standby,
--      standbys: how many there are, unawaited: whether commits wait for none of them
SELECT
    {sound} AS sound,
    current_setting('server_version_num')::integer AS version,
    current_setting('default_transaction_isolation') AS isolation,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    pg_is_in_recovery() AS standby,
    (SELECT count(*) FROM pg_stat_replication WHERE application_name <> 'pg_basebackup') AS standbys,
    current_setting('synchronous_standby_names') = '' AS unawaited
