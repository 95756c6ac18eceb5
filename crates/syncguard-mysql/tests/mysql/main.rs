//! The contract suite; and what is special about MySQL and MariaDB: what is stored, their faults, their
//! settings.

#![cfg(test)]

mod applied;
mod bounded;
mod connections;
mod contract;
mod malformed;
mod mutants;
mod network;
mod poison;
mod priorities;
mod revisions;
mod schema;
mod server;
mod settings;
mod snapshot;
mod storm;
mod wire;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row, mysql::MySqlConnectOptions};
use syncguard_mysql::{MysqlBackend, MysqlConfig};
use syncguard_testkit::server::{Mariadb, Shareable, Shared};

/// Gives the server that tests share which break nothing.
async fn shared() -> Shared<Mariadb> {
    Mariadb::shared().await.unwrap()
}

/// A table that no other test uses.
#[derive(Clone, Debug)]
struct Name(String);

impl Name {
    fn fresh() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Other processes, before or beside this one, may use the same server.
        let (process, now) = (std::process::id(), SystemTime::UNIX_EPOCH.elapsed().unwrap());
        Self(format!("locks_{}_{process}_{number}", now.as_millis()))
    }

    fn config(&self, url: &str) -> MysqlConfig {
        config(url).table(&self.0)
    }

    async fn connect(&self, url: &str) -> MysqlBackend {
        MysqlBackend::connect(self.config(url)).await.unwrap()
    }

    /// Writes the name into a text.
    fn fill(&self, sql: &str) -> String {
        sql.replace("{locks}", &self.0)
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

    /// Ends the connections whose numbers a statement gives, and says how many those were.
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
