-- Reads the settings on which promises rest.
--
-- In:  nothing
-- Out: rows: Variable_name, Value. A server leaves out what it does not know.
SHOW GLOBAL VARIABLES WHERE Variable_name IN (
    'version', 'innodb_flush_log_at_trx_commit', 'innodb_doublewrite', 'log_bin', 'sync_binlog',
    'binlog_format', 'read_only', 'super_read_only', 'innodb_read_only', 'wsrep_on'
);
-- An option of the server that is no variable: is SYSDATE() the time at which the statement began?
SELECT
    'sysdate_is_now' AS Variable_name,
    IF(SLEEP(0.002) = 0 AND SYSDATE(6) > NOW(6), 'OFF', 'ON') AS Value
