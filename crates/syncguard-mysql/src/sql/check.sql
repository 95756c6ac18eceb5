-- Reads the settings that the guarantees depend on.
--
-- In:  nothing
-- Out: rows: Variable_name, Value. A server omits the variables that it does not know.
SHOW GLOBAL VARIABLES WHERE Variable_name IN (
    'version', 'innodb_flush_log_at_trx_commit', 'innodb_doublewrite', 'log_bin', 'sync_binlog',
    'binlog_format', 'read_only', 'super_read_only', 'innodb_read_only', 'wsrep_on'
);
-- An option of the server that is not a variable: whether SYSDATE() is the start time of the statement.
SELECT
    'sysdate_is_now' AS Variable_name,
    IF(SLEEP(0.002) = 0 AND SYSDATE(6) > NOW(6), 'OFF', 'ON') AS Value
