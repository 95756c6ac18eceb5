//! The contract suite, and the tests that are specific to MySQL and MariaDB: stored formats,
//! faults, settings.

#![cfg(test)]

mod applied;
mod bounded;
mod claims;
mod connections;
mod contract;
mod crowd;
mod malformed;
mod mutants;
mod network;
mod poison;
mod priorities;
mod retiring;
mod revisions;
mod schema;
mod server;
mod settings;
mod sharing;
mod snapshot;
mod storm;
mod wire;

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row, mysql::MySqlConnectOptions};
use syncguard_core::Error;
use syncguard_mysql::{MysqlBackend, MysqlConfig};
use syncguard_testkit::{
    server::{Mariadb, Shareable, Shared, Site},
    sql::{self, Setting, Tables},
};

/// Returns the server that the tests share unless they break it.
async fn shared() -> Shared<Mariadb> {
    Mariadb::shared().await.unwrap()
}

/// A table that no other test uses.
#[derive(Clone, Debug)]
struct Name(String);

impl Name {
    fn fresh() -> Self {
        Self(format!("locks_{}", sql::unique()))
    }

    fn config(&self, url: &str) -> MysqlConfig {
        config(url).table(&self.0)
    }

    async fn connect(&self, url: &str) -> MysqlBackend {
        MysqlBackend::connect(self.config(url)).await.unwrap()
    }

    /// Fills the name into a text.
    fn fill(&self, sql: &str) -> String {
        sql.replace("{locks}", &self.0)
    }
}

impl Tables for Name {
    type Program = Mariadb;
    type Backend = MysqlBackend;
    type Config = MysqlConfig;
    type Foreign = Foreign;

    const KEY: &'static str = "lock_key";
    const WAITING: &'static str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
        WHERE COMMAND = 'Query' AND ID <> CONNECTION_ID() AND INFO LIKE '%{locks}%'";

    fn fresh() -> Self {
        Self::fresh()
    }

    async fn shared() -> Site<Mariadb> {
        Site::Shared(shared().await)
    }

    fn locks(&self) -> &str {
        &self.0
    }

    fn config(&self, url: &str, settings: &[Setting]) -> MysqlConfig {
        settings.iter().fold(self.config(url), |config, setting| match *setting {
            Setting::MaxConnections(count) => config.max_connections(count),
            Setting::ConnectTimeout(timeout) => config.connect_timeout(timeout),
            Setting::StatementTimeout(timeout) => config.statement_timeout(timeout),
            Setting::LockTimeout(timeout) => config.lock_timeout(timeout),
            Setting::WithoutListening => config,
            Setting::ExistingTablesOnly => config.existing_table_only(),
        })
    }

    async fn open(config: MysqlConfig) -> Result<MysqlBackend, Error> {
        MysqlBackend::connect(config).await
    }

    async fn setup_schema(config: &MysqlConfig) -> Result<(), Error> {
        MysqlBackend::setup_schema(config).await
    }

    fn schema_sql(config: &MysqlConfig) -> String {
        config.schema_sql().unwrap()
    }

    async fn prune(backend: &MysqlBackend, older_than: Duration) -> Result<u64, Error> {
        backend.prune(older_than).await
    }
}

async fn connect(url: &str) -> MysqlBackend {
    MysqlBackend::connect(config(url)).await.unwrap()
}

fn config(url: &str) -> MysqlConfig {
    MysqlConfig::from_url(url).unwrap()
}

/// Reads the server's clock.
const NOW_MS: &str = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)";

/// A connection of another program.
struct Foreign(MySqlConnection);

impl Foreign {
    async fn open(url: &str) -> Self {
        let options: MySqlConnectOptions = url.parse().unwrap();
        Self(options.connect().await.unwrap())
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.0).await.unwrap();
    }

    async fn number(&mut self, sql: &str) -> i64 {
        self.row(sql).await.get(0)
    }

    async fn text(&mut self, sql: &str) -> String {
        self.row(sql).await.get(0)
    }

    async fn row(&mut self, sql: &str) -> sqlx::mysql::MySqlRow {
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.0).await.unwrap();
        rows.remove(0)
    }

    /// Ends the connections whose ids a statement selects, and returns their number.
    async fn kill(&mut self, numbers: &str) -> usize {
        let rows = sqlx::raw_sql(AssertSqlSafe(numbers)).fetch_all(&mut self.0).await.unwrap();
        for row in &rows {
            let number: i64 = row.get(0);
            // It may have ended by itself.
            let kill = sqlx::raw_sql(AssertSqlSafe(format!("KILL {number}")));
            drop(kill.execute(&mut self.0).await);
        }
        rows.len()
    }
}

impl sql::Foreign for Foreign {
    async fn open(url: &str) -> Self {
        Self::open(url).await
    }

    async fn run(&mut self, sql: &str) {
        self.run(sql).await;
    }

    async fn number(&mut self, sql: &str) -> i64 {
        self.number(sql).await
    }
}
