-- Reads the settings that the guarantees depend on, as a connection without settings of its own gets them.
--
-- In:  nothing
-- Out: one row: own_transaction; version, isolation, synchronous_commit, fsync, full_page_writes, standby;
--      standbys: the number of standbys; unawaited: whether commits wait for none of them
SELECT
    {own_transaction} AS own_transaction,
    current_setting('server_version_num')::integer AS version,
    current_setting('default_transaction_isolation') AS isolation,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    pg_is_in_recovery() AS standby,
    (SELECT count(*) FROM pg_stat_replication WHERE application_name <> 'pg_basebackup') AS standbys,
    current_setting('synchronous_standby_names') = '' AS unawaited
