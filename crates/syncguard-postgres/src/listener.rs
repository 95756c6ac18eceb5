//! The connection that receives notifications of releases.

use std::{collections::HashSet, time::Duration};

use sqlx::{
    Executor, Postgres, Row, SqlStr,
    postgres::{PgArguments, PgConnectOptions, PgListener, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::time::timeout;

use syncguard_core::backend::Effect;

use crate::{error::Failure, names::WAITER_CLASS, released::Released, row::value};

/// How to open the connection that listens.
#[derive(Clone)]
pub(crate) struct ListenerOptions {
    pub(crate) connection: PgConnectOptions,
    pub(crate) channel: String,
    /// The limit on connecting, and on waiting for an answer.
    pub(crate) timeout: Duration,
}

/// A connection that listens. It holds an advisory lock for each bucket that has waiters.
///
/// The driver would reconnect by itself, without taking those locks. Therefore the first sign of
/// trouble ends the listener, and another one starts from scratch.
pub(crate) struct Listener {
    driver: PgListener,
    timeout: Duration,
    /// The buckets whose advisory locks it holds.
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
    /// Notified by this hash, because the listener has the lock of the bucket.
    As { hash: i32, bucket: i32 },
    /// Not notified yet: a release of a key of its bucket is being committed.
    Committing,
}

impl Listener {
    pub(crate) async fn open(options: &ListenerOptions) -> Result<Self, Failure> {
        // The driver's listener takes its connection from a pool.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(options.timeout)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.connection.clone());
        let opening = async {
            let mut driver = PgListener::connect_with(&pool).await.map_err(Failure::Connecting)?;
            driver.eager_reconnect(false);
            driver.ignore_pool_close_event(true);
            driver.listen(&options.channel).await.map_err(broken)?;
            Ok(Self { driver, timeout: options.timeout, buckets: HashSet::new() })
        };
        let opened = timeout(options.timeout, opening).await;
        opened.unwrap_or(Err(Failure::Unconnected(options.timeout)))
    }

    /// Waits for a release.
    pub(crate) async fn recv(&mut self) -> Result<Released, Failure> {
        loop {
            let Some(notification) = self.driver.try_recv().await.map_err(broken)? else {
                return Err(broken(sqlx::Error::WorkerCrashed));
            };
            // Other payloads are not ours.
            if let Some(released) = Released::parse(notification.payload()) {
                return Ok(released);
            }
        }
    }

    /// Subscribes this connection to the releases of these keys.
    pub(crate) async fn watch(&mut self, keys: Vec<String>) -> Result<Vec<Watch>, Failure> {
        let held: Vec<i32> = self.buckets.iter().copied().collect();
        let query = sqlx::query(SqlStr::from_static(include_str!("sql/listen_watch.sql")));
        let rows = self.query(query.bind(keys).bind(WAITER_CLASS).bind(held)).await?;
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
    pub(crate) async fn retain(&mut self, buckets: &HashSet<i32>) -> Result<(), Failure> {
        let left: Vec<i32> = self.buckets.difference(buckets).copied().collect();
        self.buckets.retain(|bucket| buckets.contains(bucket));
        let query = sqlx::query(SqlStr::from_static(include_str!("sql/listen_unwatch.sql")));
        self.query(query.bind(left).bind(WAITER_CLASS)).await.map(drop)
    }

    async fn query(
        &mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, Failure> {
        match timeout(self.timeout, self.driver.fetch_all(query)).await {
            Ok(rows) => rows.map_err(broken),
            Err(_) => Err(Failure::TimedOut(Effect::NotApplied)),
        }
    }
}

/// A connection that listens changes no lock.
fn broken(source: sqlx::Error) -> Failure {
    Failure::Driver(source, Effect::NotApplied)
}
