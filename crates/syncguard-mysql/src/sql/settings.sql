-- Sets for a connection what statements rely on, whatever the server or `init_connect` has set, and reads it
-- back.
--
-- In:  $1 how long to wait for locks in s, $2 how long a statement may run in s (only MariaDB)
-- Out: rows: Variable_name, Value
SET NAMES utf8mb4;
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET SESSION
    autocommit = 1,
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
    sql_safe_updates = 0,
    time_zone = '+00:00',
    -- Otherwise the server may skip the unique index by which abandoned ids are rejected.
    unique_checks = 1,
    innodb_lock_wait_timeout = $1,
    lock_wait_timeout = $1,
    -- Longer than the pool keeps an idle connection, and short enough to end sessions that a NAT has forgotten.
    wait_timeout = 120
    /*M! , max_statement_time = $2 */;
-- With snapshot isolation, a statement fails if a row was changed while the statement waited for it. Not every
-- version of MariaDB knows the variable. Only MariaDB reads the text after M!.
SET @syncguard_snapshot = /*M! IF(
    EXISTS (
        SELECT * FROM information_schema.SYSTEM_VARIABLES
        WHERE VARIABLE_NAME = 'INNODB_SNAPSHOT_ISOLATION'
    ),
    'SET SESSION innodb_snapshot_isolation = OFF', */ 'DO 0' /*M! ) */;
PREPARE syncguard_snapshot FROM @syncguard_snapshot;
EXECUTE syncguard_snapshot;
DEALLOCATE PREPARE syncguard_snapshot;
SHOW SESSION VARIABLES WHERE Variable_name IN (
    'autocommit', 'sql_mode', 'time_zone', 'unique_checks', 'tx_isolation', 'transaction_isolation',
    'innodb_snapshot_isolation'
)
