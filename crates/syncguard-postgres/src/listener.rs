//! The connection on which releases are told.

use std::time::Duration;

use sqlx::{
    Executor, Row, SqlStr,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgRow},
};
use tokio::time::timeout;

use crate::{
    error::{Effect, Failure},
    lookup::value,
    wait::CLASS,
};

/// How the connection is made.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) options: PgConnectOptions,
    pub(crate) channel: String,
    /// How long connecting may take, and how long an answer.
    pub(crate) patience: Duration,
}

/// A connection that listens. It holds an advisory lock for each key that is waited for.
///
/// The driver would connect again by itself, and not take those locks. So the first sign of trouble
/// ends the listener, and another one begins from scratch.
pub(crate) struct Listener {
    driver: PgListener,
    patience: Duration,
}

impl Listener {
    pub(crate) async fn open(line: &Line) -> Result<Self, Failure> {
        // The driver's listener takes its connection from a pool.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(line.patience)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .connect_lazy_with(line.options.clone());
        let opening = async {
            let mut driver = PgListener::connect_with(&pool).await.map_err(Failure::Connecting)?;
            driver.eager_reconnect(false);
            driver.ignore_pool_close_event(true);
            driver.listen(&line.channel).await.map_err(broken)?;
            Ok(Self { driver, patience: line.patience })
        };
        let opened = timeout(line.patience, opening).await;
        opened.unwrap_or(Err(Failure::Unconnected(line.patience)))
    }

    /// Waits for a release, and gives the hash of its key.
    pub(crate) async fn news(&mut self) -> Result<i32, Failure> {
        loop {
            let Some(notification) = self.driver.try_recv().await.map_err(broken)? else {
                return Err(broken(sqlx::Error::WorkerCrashed));
            };
            // What others say on this channel is no news.
            if let Ok(hash) = notification.payload().parse() {
                return Ok(hash);
            }
        }
    }

    /// Lets releases of these keys be told. Gives each key, its hash, and whether that succeeded: not
    /// while a release of it is being committed.
    pub(crate) async fn watch(
        &mut self,
        keys: Vec<String>,
    ) -> Result<Vec<(String, i32, bool)>, Failure> {
        let rows = self.ask(include_str!("sql/listen_watch.sql"), keys).await?;
        let read = |row: &PgRow| {
            Ok((row.try_get("key").map_err(broken)?, value(row, "hash")?, value(row, "watched")?))
        };
        rows.iter().map(read).collect()
    }

    /// Lets releases of these keys be told no more. With no keys, it finds out whether the server is
    /// still there.
    pub(crate) async fn unwatch(&mut self, keys: Vec<String>) -> Result<(), Failure> {
        self.ask(include_str!("sql/listen_unwatch.sql"), keys).await.map(drop)
    }

    async fn ask(&mut self, sql: &'static str, keys: Vec<String>) -> Result<Vec<PgRow>, Failure> {
        let query = sqlx::query(SqlStr::from_static(sql)).bind(keys).bind(CLASS);
        match timeout(self.patience, self.driver.fetch_all(query)).await {
            Ok(rows) => rows.map_err(broken),
            Err(_) => Err(Failure::TimedOut(Effect::None)),
        }
    }
}

/// No lock is touched by a connection that listens.
fn broken(source: sqlx::Error) -> Failure {
    Failure::Driver(source, Effect::None)
}
