//! Connections: a pool of our own, or that of the caller.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, PgPool, Postgres, Row, SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgConnection, PgRow},
};
use syncguard_core::pool::{Lease, LeaseError, Manager, Pool, Priority, contained};
use tokio::time::{sleep, timeout};

use syncguard_core::backend::Effect;

use crate::error::Failure;

/// The limit on an orderly close of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for sessions to end before retrying over another connection.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to check whether the sessions have ended.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Where connections come from.
pub(crate) enum Source {
    Own(Pool<Server>),
    /// The caller's pool serves requests in the order of arrival. Therefore requests first wait for
    /// a turn, which is assigned by priority.
    Callers {
        pool: PgPool,
        turns: Pool<Turns>,
        limit: Duration,
    },
}

/// A connection in use. Dropping it closes the connection.
pub(crate) enum Leased {
    Own(Lease<Server>),
    Callers { connection: PoolConnection<Postgres>, turn: Lease<Turns> },
}

impl Source {
    /// Leases a connection. If it fails, nothing was sent.
    pub(crate) async fn lease(&self, priority: Priority) -> Result<Leased, Failure> {
        match self {
            Self::Own(pool) => Ok(Leased::Own(pool.lease(priority).await?)),
            Self::Callers { pool, turns, limit } => {
                let turn = turns.lease(priority).await.map_err(|error| match error {
                    LeaseError::Busy(limit) => LeaseError::Busy(limit),
                    LeaseError::TimedOut { limit, .. } => {
                        LeaseError::TimedOut { limit, cause: None }
                    }
                    LeaseError::Failed(never) => match *never {},
                })?;
                // The driver's future is large. Unboxed, it would be part of each statement, and be
                // copied with it into a task, also where connections are our own.
                let acquiring = Box::pin(pool.acquire());
                let connection = match timeout(*limit, acquiring).await {
                    Ok(connection) => connection.map_err(Failure::Connecting)?,
                    Err(_) => return Err(Failure::Unconnected(*limit)),
                };
                Ok(Leased::Callers { connection, turn })
            }
        }
    }

    /// Makes idle connections be tested before they are used, after another one broke.
    pub(crate) fn suspect_idle(&self) {
        if let Self::Own(pool) = self {
            pool.suspect_idle();
        }
    }
}

impl Leased {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(lease) => &mut lease.connection().connection,
            Self::Callers { connection, .. } => connection,
        }
    }

    /// Returns a connection whose state is unchanged.
    pub(crate) fn give_back(self) {
        match self {
            Self::Own(lease) => lease.give_back(),
            Self::Callers { connection, turn } => {
                drop(connection);
                turn.give_back();
            }
        }
    }

    /// Closes a working connection, and with it the transaction that it is in.
    pub(crate) async fn close(self) {
        if let Self::Callers { connection, turn } = self {
            // The operating system closes it if this times out.
            let _ = timeout(CLOSE_TIMEOUT, connection.detach().close()).await;
            turn.give_back();
        }
    }

    /// Drops a connection that is broken, or whose state is unknown. The caller's pool would wait
    /// for its answer.
    pub(crate) fn discard(self) {
        match self {
            Self::Own(lease) => drop(lease),
            Self::Callers { connection, turn } => {
                drop(connection.detach());
                turn.give_back();
            }
        }
    }

    /// Returns whether the server's side can be ended from another connection.
    pub(crate) fn has_session(&mut self) -> bool {
        match self {
            Self::Own(lease) => lease.connection().session.is_some(),
            Self::Callers { .. } => false,
        }
    }

    /// Abandons a connection whose answer did not arrive.
    pub(crate) fn abandon(self) {
        match self {
            Self::Own(lease) => lease.abandon(),
            Self::Callers { .. } => self.discard(),
        }
    }
}

/// How connections of our own are opened, tested, and ended at the server.
pub(crate) struct Server {
    pub(crate) options: PgConnectOptions,
    /// Whether connections are the server's own, not those of a pooler.
    pub(crate) is_direct: bool,
}

/// A connection of our own.
pub(crate) struct OwnConnection {
    connection: PgConnection,
    /// `None` behind a pooler, which runs each statement in any of its sessions.
    session: Option<Session>,
}

/// A process of the server. Its number may be reused, and may mean another process at another
/// server behind the same address, so its start time is kept with it.
#[derive(Clone)]
pub(crate) struct Session {
    pid: i32,
    started: i64,
}

impl Manager for Server {
    type Connection = OwnConnection;
    type Error = Failure;
    type Session = Session;

    async fn open(&self) -> Result<OwnConnection, Failure> {
        let (options, is_direct) = (self.options.clone(), self.is_direct);
        contained(async move {
            let mut connection = options.connect().await.map_err(Failure::Connecting)?;
            let session = match is_direct {
                true => Session::of(&mut connection).await.map_err(Failure::Connecting)?,
                false => None,
            };
            Ok(OwnConnection { connection, session })
        })
        .await
        .unwrap_or_else(Failure::uncontained)
    }

    async fn ping(&self, own: &mut OwnConnection) -> Result<(), Failure> {
        own.connection.ping().await.map_err(Failure::Connecting)
    }

    fn is_transient(&self, failure: &Failure) -> bool {
        failure.passes()
    }

    fn session(&self, own: &OwnConnection) -> Option<Session> {
        own.session.clone()
    }

    async fn end(&self, sessions: &[Session]) -> Result<Vec<bool>, Failure> {
        let (options, sessions) = (self.options.clone(), sessions.to_vec());
        contained(async move {
            let mut connection = options.connect().await.map_err(Failure::Connecting)?;
            let started = Instant::now();
            loop {
                let alive = Session::end(&sessions, &mut connection).await;
                let alive = alive.map_err(|source| Failure::driver(source, Effect::NotApplied))?;
                if alive.is_empty() || started.elapsed() > SESSION_END_TIMEOUT {
                    // The operating system closes it if this times out.
                    let _ = timeout(CLOSE_TIMEOUT, connection.close()).await;
                    return Ok(sessions.iter().map(|s| !alive.contains(&s.pid)).collect());
                }
                sleep(SESSION_CHECK_INTERVAL).await;
            }
        })
        .await
        .unwrap_or_else(Failure::uncontained)
    }
}

impl Session {
    /// Returns the session of a connection, if the server shows it.
    async fn of(connection: &mut PgConnection) -> Result<Option<Self>, sqlx::Error> {
        let sql = SqlStr::from_static(include_str!("sql/session.sql"));
        let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
        let session =
            |row: &PgRow| Ok(Self { pid: row.try_get("pid")?, started: row.try_get("started")? });
        rows.first().map(session).transpose()
    }

    /// Ends these sessions, and returns the numbers of those that still existed.
    async fn end(
        sessions: &[Self],
        connection: &mut PgConnection,
    ) -> Result<Vec<i32>, sqlx::Error> {
        let pids: Vec<i32> = sessions.iter().map(|session| session.pid).collect();
        let started: Vec<i64> = sessions.iter().map(|session| session.started).collect();
        let sql = SqlStr::from_static(include_str!("sql/end_sessions.sql"));
        let rows = sqlx::query(sql).bind(pids).bind(started).fetch_all(connection).await?;
        rows.iter().map(|row| row.try_get("pid")).collect()
    }
}

/// Turns at the caller's pool.
pub(crate) struct Turns;

impl Manager for Turns {
    type Connection = ();
    type Error = Infallible;
    type Session = ();

    async fn open(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn ping(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_transient(&self, never: &Infallible) -> bool {
        match *never {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use syncguard_core::pool::{Limits, MIN_SIZE, Pool, Priority};
    use tokio::runtime::Handle;

    use super::{Source, Turns};

    /// Each statement copies this future when it moves into its task.
    #[tokio::test]
    async fn the_future_of_a_lease_does_not_contain_that_of_the_callers_pool() {
        let pool = PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new());
        let of_pool = size_of_val(&pool.acquire());
        let limit = Duration::from_secs(1);
        let limits = Limits { size: MIN_SIZE, wait: limit, open: limit };
        let turns = Pool::new(Turns, limits, Handle::current());
        let source = Source::Callers { pool, turns, limit };
        let of_lease = size_of_val(&source.lease(Priority::Acquire));
        assert!(of_lease < of_pool, "{of_lease} bytes, and the driver's alone {of_pool}");
    }
}
