//! Connections to the server: how they are opened, tested, and ended.

use std::time::{Duration, Instant};

use sqlx::{
    ConnectOptions, Connection, Row, SqlStr,
    postgres::{PgConnectOptions, PgConnection, PgRow},
};
use syncguard_core::{
    backend::Effect,
    pool::{Manager, contained},
};
use tokio::time::{sleep, timeout};

use crate::{
    error::Failure,
    wire::{Ears, Wire},
};

/// The limit on an orderly close of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for sessions to end before retrying over another connection.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to check whether the sessions have ended.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// How connections of our own are opened, tested, and ended at the server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) options: PgConnectOptions,
    /// Whether connections are the server's own, not those of a pooler.
    pub(crate) is_direct: bool,
    /// Counts the connections that can listen. `None` if releases are not listened for here.
    pub(crate) ears: Option<Ears>,
}

/// A connection of our own.
pub(crate) struct OwnConnection {
    pub(crate) wire: Wire,
    /// `None` behind a pooler, which runs each statement in any of its sessions.
    pub(crate) session: Option<Session>,
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
        let Self { options, is_direct, ears } = self.clone();
        contained(async move {
            let opened = match ears {
                // One connection is enough to listen.
                Some(ears) if ears.is_empty() => Wire::open(&options, ears).await,
                _ => options.connect().await.map(Wire::Plain),
            };
            let mut wire = opened.map_err(Failure::Connecting)?;
            let session = match is_direct {
                true => Session::of(&mut wire).await.map_err(Failure::Connecting)?,
                false => None,
            };
            Ok(OwnConnection { wire, session })
        })
        .await
        .unwrap_or_else(Failure::uncontained)
    }

    async fn ping(&self, own: &mut OwnConnection) -> Result<(), Failure> {
        let connection = own.wire.connection().await.map_err(Failure::Connecting)?;
        connection.ping().await.map_err(Failure::Connecting)
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
    pub(crate) async fn of(wire: &mut Wire) -> Result<Option<Self>, sqlx::Error> {
        let sql = SqlStr::from_static(include_str!("sql/session.sql"));
        let rows = sqlx::raw_sql(sql).fetch_all(wire.connection().await?).await?;
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
