//! The contract suite on a plain server and through pgbouncer; and what is special about PostgreSQL:
//! its stored formats, its faults, its poolers, its wake-ups.

#![cfg(test)]

mod batching;
mod connections;
mod contract;
mod hostile;
mod losers;
mod malformed;
mod mutants;
mod network;
mod not_applied;
mod peers;
mod poison;
mod pooler;
mod priorities;
mod queueing;
mod revisions;
mod schema;
mod server;
mod sessions;
mod settings;
mod storm;
mod typescript;
mod wakeups;
mod wire;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use sqlx::{ConnectOptions, PgConnection, Row, postgres::PgConnectOptions};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::server::PostgresServer;
use tokio::sync::Mutex;

/// Gives the server that the tests of this process share which break nothing, or starts one. Some of
/// them look at all that is going on there, so other processes do not use it.
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
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Other processes, before or beside this one, may use the same server.
        let (process, now) = (std::process::id(), SystemTime::UNIX_EPOCH.elapsed().unwrap());
        let fresh = format!("{}_{process}_{number}", now.as_millis());
        Self { locks: format!("locks_{fresh}"), counters: format!("fences_{fresh}") }
    }

    fn config(&self, url: &str) -> PostgresConfig {
        config(url).tables(&self.locks, &self.counters)
    }

    async fn connect(&self, url: &str) -> PostgresBackend {
        PostgresBackend::connect(self.config(url)).await.unwrap()
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
