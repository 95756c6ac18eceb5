//! How connections are opened, tested, and ended at the server; the pool itself is the core's.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow},
};
use syncguard_core::pool::{Manager, contained};
use tokio::time::{sleep, timeout};

use crate::{
    error::Failure,
    row::{text, value},
    sql,
    statement::Statement,
};

/// The limit on an orderly close of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for sessions to end before retrying over another connection.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to check whether the sessions have ended.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The settings that a connection must report, as MySQL 8 and MariaDB spell them.
const PINNED: [(&str, &str); 7] = [
    ("autocommit", "ON"),
    ("innodb_snapshot_isolation", "OFF"),
    ("sql_mode", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"),
    ("time_zone", "+00:00"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("tx_isolation", "READ-COMMITTED"),
    ("unique_checks", "ON"),
];

/// The server, and how connections to it begin.
pub(crate) struct Server {
    pub(crate) options: MySqlConnectOptions,
    pub(crate) settings: Settings,
}

/// What is set for each connection.
#[derive(Clone)]
pub(crate) struct Settings {
    sql: Arc<str>,
    lock_timeout: i64,
    statement_timeout: String,
}

/// A connection of our own.
pub(crate) struct OwnConnection {
    pub(crate) connection: MySqlConnection,
    /// `None` if the server does not show it.
    pub(crate) session: Option<Session>,
}

/// A session of the server. Its number may mean another session at another server behind the same
/// address, so our end of the connection is kept with it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session {
    id: i64,
    host: String,
}

impl Manager for Server {
    type Connection = OwnConnection;
    type Error = Failure;
    type Session = Session;

    async fn open(&self) -> Result<OwnConnection, Failure> {
        let (options, settings) = (self.options.clone(), self.settings.clone());
        contained(async move {
            let mut connection = options.connect().await.map_err(Failure::Connecting)?;
            settings.pin(&mut connection).await?;
            let sessions = Session::all(&mut connection, "CONNECTION_ID()").await?;
            Ok(OwnConnection { connection, session: sessions.into_iter().next() })
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

    async fn end(&self, ending: &[Session]) -> Result<Vec<bool>, Failure> {
        let (options, ending) = (self.options.clone(), ending.to_vec());
        contained(async move {
            let mut connection = options.connect().await.map_err(Failure::Connecting)?;
            let started = Instant::now();
            loop {
                let mut alive = Session::all(&mut connection, "ID").await?;
                alive.retain(|session| ending.contains(session));
                if alive.is_empty() || started.elapsed() > SESSION_END_TIMEOUT {
                    // The operating system closes it if this times out.
                    let _ = timeout(CLOSE_TIMEOUT, connection.close()).await;
                    return Ok(ending.iter().map(|session| !alive.contains(session)).collect());
                }
                for session in alive {
                    let kill = Arc::from("KILL CONNECTION $1");
                    // It may have ended by itself.
                    let _ = Statement::read(&kill).integer(session.id).run(&mut connection).await;
                }
                sleep(SESSION_CHECK_INTERVAL).await;
            }
        })
        .await
        .unwrap_or_else(Failure::uncontained)
    }
}

impl Session {
    /// Returns the sessions of this user whose number equals `id`, which is an SQL expression.
    async fn all(connection: &mut MySqlConnection, id: &str) -> Result<Vec<Self>, Failure> {
        let answer = Statement::read(&sql::sessions()).digits(id).run(connection).await;
        let rows = answer.map_err(Failure::in_opening)?.rows;
        let session = |row| {
            let host = text(row, "host").unwrap_or_default().to_owned();
            Ok(Self { id: value(row, "id")?, host })
        };
        rows.iter().map(session).collect()
    }
}

impl Settings {
    pub(crate) fn new(lock_timeout: Duration, statement_timeout: Duration) -> Self {
        let lock_timeout = i64::try_from(lock_timeout.as_secs()).unwrap_or(i64::MAX);
        let statement_timeout = format!("{:.3}", statement_timeout.as_secs_f64());
        Self { sql: sql::settings(), lock_timeout, statement_timeout }
    }

    /// Sets what statements rely on, and verifies it.
    async fn pin(&self, connection: &mut MySqlConnection) -> Result<(), Failure> {
        let setting = Statement::read(&self.sql).integer(self.lock_timeout);
        let answer = setting.digits(&self.statement_timeout).run(connection).await;
        let answer = answer.map_err(Failure::in_opening)?;
        match answer.rows.iter().find(|row| !is_pinned(row)) {
            // The isolation level has one of its two names, or both, and not every server knows
            // snapshot isolation.
            None if answer.rows.len() >= PINNED.len() - 2 => Ok(()),
            None => Err(Failure::UnreadableAnswer("settings")),
            Some(row) => Err(Failure::Unpinned(name_of(row).to_owned())),
        }
    }
}

fn is_pinned(row: &MySqlRow) -> bool {
    let value = text(row, "Value");
    PINNED.iter().any(|(name, pinned)| *name == name_of(row) && value == Some(pinned))
}

fn name_of(row: &MySqlRow) -> &str {
    text(row, "Variable_name").unwrap_or_default()
}
