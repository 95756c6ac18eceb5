//! Opening connections as they are configured.

use std::{sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow},
};
use syncguard_core::pool::{Limits, MIN_SIZE, Pool, Pruning};
use tokio::runtime::Handle;

use crate::{
    MysqlConfig,
    connection::Connections,
    error::Failure,
    lookup::text,
    pool::Server,
    sql::{Sql, settings},
    statement::Statement,
    store::Store,
    table::Table,
    transport,
};

/// What a connection must say of itself, in the words of MySQL 8 and of MariaDB.
const PINNED: [(&str, &str); 7] = [
    ("autocommit", "ON"),
    ("innodb_snapshot_isolation", "OFF"),
    ("sql_mode", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"),
    ("time_zone", "+00:00"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("tx_isolation", "READ-COMMITTED"),
    ("unique_checks", "ON"),
];

/// How long one attempt to open a connection may take at least, whatever its waiters are ready to
/// wait: one that is given up half-way has cost the server as much as one that succeeds.
const OPENING: Duration = Duration::from_secs(5);

impl MysqlConfig {
    /// Opens what operations work with. Nothing is known of the table yet.
    pub(crate) async fn open(&self) -> Result<Store, Failure> {
        self.validate()?;
        let table = Table::new(&self.table)?;
        let settings = Settings::new(self.lock_timeout, self.statement_timeout);
        let limits = Limits {
            size: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
            wait: self.connect_timeout,
            open: self.connect_timeout.max(OPENING),
        };
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let server = Server { options: self.plain(), settings };
        let pool = Pool::new(server, limits, runtime.clone());
        pool.open_first().await?;
        let statement_timeout = self.statement_timeout;
        let connections = Connections { pool, statement_timeout, runtime };
        Ok(Store {
            connections: Arc::new(connections),
            sql: Sql::new(&table),
            table,
            pruning: Pruning::default(),
            transport: transport::finding(&self.options),
        })
    }

    /// How a connection is opened before anything is set for it.
    fn plain(&self) -> MySqlConnectOptions {
        let options = self.options.as_ref().clone();
        let options = options.pipes_as_concat(false).no_engine_substitution(false);
        // Statements hold ids, and whoever knows one can release the lock.
        options.timezone(None).set_names(false).disable_statement_logging()
    }

    fn validate(&self) -> Result<(), Failure> {
        let longest = self.connect_timeout.max(self.statement_timeout).max(self.lock_timeout);
        for (rule, holds) in [
            ("the address names no database", self.options.get_database().is_some()),
            (
                "max_connections must be at least 2: one connection is kept for extends and releases",
                self.max_connections as usize >= MIN_SIZE,
            ),
            (
                "a timeout is shorter than 10 ms",
                self.connect_timeout.min(self.statement_timeout) >= Duration::from_millis(10),
            ),
            ("the lock timeout is no whole seconds", {
                self.lock_timeout.as_secs() > 0 && self.lock_timeout.subsec_nanos() == 0
            }),
            ("a timeout is longer than 1 h", longest <= Duration::from_secs(60 * 60)),
        ] {
            if !holds {
                return Err(Failure::Config(rule.to_owned()));
            }
        }
        Ok(())
    }
}

/// What is set for each connection.
#[derive(Clone)]
pub(crate) struct Settings {
    sql: Arc<str>,
    lock_timeout: i64,
    statement_timeout: String,
}

impl Settings {
    fn new(lock_timeout: Duration, statement_timeout: Duration) -> Self {
        let lock_timeout = i64::try_from(lock_timeout.as_secs()).unwrap_or(i64::MAX);
        let statement_timeout = format!("{:.3}", statement_timeout.as_secs_f64());
        Self { sql: settings(), lock_timeout, statement_timeout }
    }

    /// Sets what statements rely on, and makes sure that it is set.
    pub(crate) async fn pin(&self, connection: &mut MySqlConnection) -> Result<(), Failure> {
        let setting = Statement::read(&self.sql).integer(self.lock_timeout);
        let answer = setting.digits(&self.statement_timeout).run(connection).await;
        let answer = answer.map_err(Failure::in_opening)?;
        match answer.rows.iter().find(|row| !is_pinned(row)) {
            // The isolation level has one of its two names, or both, and not every server knows
            // snapshot isolation.
            None if answer.rows.len() >= PINNED.len() - 2 => Ok(()),
            None => Err(Failure::UnreadableAnswer("settings")),
            Some(row) => Err(Failure::Unpinned(name_of(row).to_owned())),
        }
    }
}

fn is_pinned(row: &MySqlRow) -> bool {
    let value = text(row, "Value");
    PINNED.iter().any(|(name, pinned)| *name == name_of(row) && value == Some(pinned))
}

fn name_of(row: &MySqlRow) -> &str {
    text(row, "Variable_name").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::MysqlConfig;

    #[test]
    fn values_that_break_a_rule_are_refused() {
        let config = || MysqlConfig::from_url("mysql://h/d").unwrap();
        for bad in [
            MysqlConfig::from_url("mysql://h").unwrap(),
            config().max_connections(0),
            config().max_connections(1),
            config().connect_timeout(Duration::ZERO),
            config().statement_timeout(Duration::from_millis(9)),
            config().lock_timeout(Duration::from_millis(1_500)),
            config().lock_timeout(Duration::ZERO),
            config().lock_timeout(Duration::MAX),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(config().validate().is_ok());
    }
}
