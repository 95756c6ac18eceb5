//! The connection that receives notifications of releases.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::{
    Postgres, Row, SqlStr,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::Query,
};
use tokio::time::timeout;

use syncguard_core::backend::Effect;

use crate::{
    error::Failure,
    names::WAITER_CLASS,
    pool::OwnPool,
    released::Released,
    row::value,
    server::{OwnConnection, Session},
    station::Station,
    wire::{Ear, Wire},
};

/// How soon a connection of the pool must answer to become the one that listens.
const POOLED_LISTEN_TIMEOUT: Duration = Duration::from_millis(500);

/// How to open the connection that listens.
#[derive(Clone)]
pub(crate) struct ListenerOptions {
    pub(crate) connection: PgConnectOptions,
    pub(crate) channel: String,
    /// The limit on connecting, and on waiting for an answer.
    pub(crate) timeout: Duration,
    /// The pool that the connection is taken from and lent to, if its connections can listen.
    pub(crate) pool: Option<Arc<OwnPool>>,
}

/// A connection that listens. It holds an advisory lock for each bucket that has waiters.
///
/// The driver would reconnect by itself, without taking those locks. Therefore the first sign of
/// trouble ends the listener, and another one starts from scratch.
pub(crate) struct Listener {
    station: Arc<Station>,
    options: ListenerOptions,
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
        let station = Arc::new(Station::default());
        // Before the connection is taken from the pool, so that it is waited for.
        if let Some(pool) = &options.pool {
            pool.set_station(station.clone());
        }
        let listener = Self { station, options: options.clone(), buckets: HashSet::new() };
        let opening = async {
            let connection = match pooled(options).await {
                Some(connection) => connection,
                None => {
                    let mut connection = connect(options).await?;
                    listen(&mut connection, &options.channel).await.map_err(broken)?;
                    connection
                }
            };
            listener.station.give_back(connection);
            Ok(())
        };
        let opened = timeout(options.timeout, opening).await;
        opened.unwrap_or(Err(Failure::Unconnected(options.timeout))).map(|()| listener)
    }

    /// Waits for a release.
    pub(crate) async fn recv(&mut self) -> Result<Released, Failure> {
        loop {
            let received = self.station.recv().await.unwrap_or(Ok(None));
            let Some(notification) = received.map_err(broken)? else {
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

    /// Stops listening, and leaves the connection to the pool that it was lent to. If that fails, the
    /// connection is closed.
    pub(crate) async fn close(mut self) {
        if self.retain(&HashSet::new()).await.is_err() {
            return;
        }
        let Some((pool, mut connection)) =
            self.options.pool.as_ref().zip(self.station.take().await)
        else {
            return;
        };
        if let Wire::Listening(ear) = &mut connection.wire
            && let Ok(Ok(())) = timeout(self.options.timeout, ear.driver().unlisten_all()).await
        {
            pool.add(connection);
        }
    }

    async fn query(
        &mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, Failure> {
        let connection = self.station.take().await;
        let mut connection = connection.ok_or_else(|| broken(sqlx::Error::WorkerCrashed))?;
        let answering = async { query.fetch_all(connection.wire.connection().await?).await };
        match timeout(self.options.timeout, answering).await {
            Ok(Ok(rows)) => {
                self.station.give_back(connection);
                Ok(rows)
            }
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(Failure::TimedOut(Effect::NotApplied)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(pool) = &self.options.pool {
            pool.remove_station(&self.station);
        }
        self.station.close();
    }
}

/// Takes the connection that can listen out of the pool, and listens. Returns `None` if there is
/// none, or if it is not idle or does not answer soon.
async fn pooled(options: &ListenerOptions) -> Option<OwnConnection> {
    let mut connection = options.pool.as_ref()?.take_listening().await?;
    let listening = listen(&mut connection, &options.channel);
    let listening = timeout(POOLED_LISTEN_TIMEOUT, listening).await;
    listening.is_ok_and(|listening| listening.is_ok()).then_some(connection)
}

async fn listen(connection: &mut OwnConnection, channel: &str) -> Result<(), sqlx::Error> {
    match &mut connection.wire {
        Wire::Listening(ear) => ear.driver().listen(channel).await,
        Wire::Plain(_) => Ok(()),
    }
}

async fn connect(options: &ListenerOptions) -> Result<OwnConnection, Failure> {
    let ears = options.pool.as_ref().and_then(|pool| pool.ears()).cloned().unwrap_or_default();
    let ear = Ear::open(&options.connection, options.timeout, ears).await;
    let mut wire = Wire::Listening(ear.map_err(Failure::Connecting)?);
    let session = match options.pool {
        Some(_) => Session::of(&mut wire).await.map_err(Failure::Connecting)?,
        None => None,
    };
    Ok(OwnConnection { wire, session })
}

/// A connection that listens changes no lock.
fn broken(source: sqlx::Error) -> Failure {
    Failure::Driver(source, Effect::NotApplied)
}
