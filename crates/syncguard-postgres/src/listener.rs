//! The connection that receives notifications of releases.

use std::{collections::HashSet, time::Duration};

use sqlx::{
    Executor, Postgres, Row, SqlStr,
    postgres::{PgArguments, PgConnectOptions, PgListener, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::time::timeout;

use crate::{
    error::{Effect, Failure},
    names::WAITER_CLASS,
    row::value,
};

/// How to open the connection.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) options: PgConnectOptions,
    pub(crate) channel: String,
    /// The limit on connecting, and on waiting for an answer.
    pub(crate) patience: Duration,
}

/// A connection that listens. It holds an advisory lock for each bucket with keys that are waited for.
///
/// The driver would reconnect by itself, without taking those locks. Therefore the first sign of
/// trouble ends the listener, and another one starts from scratch.
pub(crate) struct Listener {
    driver: PgListener,
    patience: Duration,
    /// The buckets whose advisory locks it has.
    buckets: HashSet<i32>,
}

/// The result of the attempt to watch a key.
pub(crate) struct Watch {
    pub(crate) key: String,
    pub(crate) watched: Watched,
}

/// Whether a listener is notified of releases of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// By this hash, because the listener has the lock of the bucket.
    As { hash: i32, bucket: i32 },
    /// Not yet: a release of a key of its bucket is being committed.
    Committing,
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
            Ok(Self { driver, patience: line.patience, buckets: HashSet::new() })
        };
        let opened = timeout(line.patience, opening).await;
        opened.unwrap_or(Err(Failure::Unconnected(line.patience)))
    }

    /// Waits for a release, and returns the hash of its key.
    pub(crate) async fn news(&mut self) -> Result<i32, Failure> {
        loop {
            let Some(notification) = self.driver.try_recv().await.map_err(broken)? else {
                return Err(broken(sqlx::Error::WorkerCrashed));
            };
            // Other payloads are not ours.
            if let Ok(hash) = notification.payload().parse() {
                return Ok(hash);
            }
        }
    }

    /// Makes releases of these keys notify this connection.
    pub(crate) async fn watch(&mut self, keys: Vec<String>) -> Result<Vec<Watch>, Failure> {
        let held: Vec<i32> = self.buckets.iter().copied().collect();
        let query = sqlx::query(SqlStr::from_static(include_str!("sql/listen_watch.sql")));
        let rows = self.ask(query.bind(keys).bind(WAITER_CLASS).bind(held)).await?;
        let mut watches = Vec::with_capacity(rows.len());
        for row in &rows {
            let (hash, bucket) = (value(row, "hash")?, value(row, "bucket")?);
            let watched = match value(row, "watched")? {
                true => Watched::As { hash, bucket },
                false => Watched::Committing,
            };
            if watched != Watched::Committing {
                self.buckets.insert(bucket);
            }
            watches.push(Watch { key: row.try_get("key").map_err(broken)?, watched });
        }
        Ok(watches)
    }

    /// Releases the locks of all buckets except these. If there are no locks to release, checks
    /// whether the server still answers.
    pub(crate) async fn keep(&mut self, buckets: &HashSet<i32>) -> Result<(), Failure> {
        let left: Vec<i32> = self.buckets.difference(buckets).copied().collect();
        self.buckets.retain(|bucket| buckets.contains(bucket));
        let query = sqlx::query(SqlStr::from_static(include_str!("sql/listen_unwatch.sql")));
        self.ask(query.bind(left).bind(WAITER_CLASS)).await.map(drop)
    }

    async fn ask(
        &mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, Failure> {
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
