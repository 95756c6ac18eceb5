//! The contract suite on a plain server and through pgbouncer, and the tests that are specific to
//! PostgreSQL: stored formats, faults, poolers, wake-ups.

#![cfg(test)]

mod batching;
mod claims;
mod connections;
mod contract;
mod holds;
mod hostile;
mod line;
mod listening;
mod losers;
mod malformed;
mod mixed_storm;
mod mutants;
mod network;
mod not_applied;
mod peer;
mod peers;
mod poison;
mod pooler;
mod priorities;
mod queueing;
mod retiring;
mod revisions;
mod schema;
mod server;
mod sessions;
mod settings;
mod sharing;
mod storm;
mod together;
mod typescript;
mod wakeups;
mod wire;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::{ConnectOptions, PgConnection, Row, postgres::PgConnectOptions};
use syncguard_core::Error;
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    server::{Postgres, PostgresServer, Site},
    sql::{self, Setting, Tables},
};
use tokio::sync::Mutex;

/// Returns the server that the tests of this process share unless they break it, or starts one.
/// Some tests inspect all activity of the server, so other processes do not use it.
async fn shared() -> Arc<PostgresServer> {
    static IN_USE: Mutex<Weak<PostgresServer>> = Mutex::const_new(Weak::new());
    let mut in_use = IN_USE.lock().await;
    if let Some(server) = in_use.upgrade() {
        return server;
    }
    let server = PostgresServer::builder().setting("max_connections", "400").start();
    let server = Arc::new(server.await.unwrap());
    *in_use = Arc::downgrade(&server);
    server
}

/// Two tables that no other test uses.
#[derive(Clone, Debug)]
struct Names {
    locks: String,
    counters: String,
}

impl Names {
    fn fresh() -> Self {
        let fresh = sql::unique();
        Self { locks: format!("locks_{fresh}"), counters: format!("fences_{fresh}") }
    }

    fn config(&self, url: &str) -> PostgresConfig {
        config(url).tables(&self.locks, &self.counters)
    }

    async fn connect(&self, url: &str) -> PostgresBackend {
        PostgresBackend::connect(self.config(url)).await.unwrap()
    }
}

impl Tables for Names {
    type Program = Postgres;
    type Backend = PostgresBackend;
    type Config = PostgresConfig;
    type Foreign = Foreign;

    const KEY: &'static str = "key";
    const WAITING: &'static str = "SELECT count(DISTINCT pid)
        FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND query LIKE '%{locks}%'";

    fn fresh() -> Self {
        Self::fresh()
    }

    async fn shared() -> Site<Postgres> {
        Site::Own(shared().await)
    }

    fn locks(&self) -> &str {
        &self.locks
    }

    fn config(&self, url: &str, settings: &[Setting]) -> PostgresConfig {
        settings.iter().fold(self.config(url), |config, setting| match *setting {
            Setting::MaxConnections(count) => config.max_connections(count),
            Setting::ConnectTimeout(timeout) => config.connect_timeout(timeout),
            Setting::StatementTimeout(timeout) => config.statement_timeout(timeout),
            Setting::LockTimeout(timeout) => config.lock_timeout(timeout),
            Setting::WithoutListening => config.without_listening(),
            Setting::ExistingTablesOnly => config.existing_tables_only(),
        })
    }

    async fn open(config: PostgresConfig) -> Result<PostgresBackend, Error> {
        PostgresBackend::connect(config).await
    }

    async fn setup_schema(config: &PostgresConfig) -> Result<(), Error> {
        PostgresBackend::setup_schema(config).await
    }

    fn schema_sql(config: &PostgresConfig) -> String {
        config.schema_sql().unwrap()
    }

    async fn prune(backend: &PostgresBackend, older_than: Duration) -> Result<u64, Error> {
        backend.prune(older_than).await
    }
}

async fn connect(url: &str) -> PostgresBackend {
    PostgresBackend::connect(config(url)).await.unwrap()
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap()
}

/// A connection of another program.
struct Foreign(PgConnection);

impl Foreign {
    async fn open(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        Self(options.connect().await.unwrap())
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.0).await.unwrap();
    }

    async fn number(&mut self, sql: &str) -> i64 {
        sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.0).await.unwrap().get(0)
    }

    async fn text(&mut self, sql: &str) -> String {
        sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.0).await.unwrap().get(0)
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
