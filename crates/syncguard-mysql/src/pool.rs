//! How connections are opened, tested, and ended at the server; the pool itself is the core's.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection,
    mysql::{MySqlConnectOptions, MySqlConnection},
};
use syncguard_core::pool::{Manager, contained};
use tokio::time::{sleep, timeout};

use crate::{
    error::Failure,
    lookup::{text, value},
    opening::Settings,
    sql::sessions,
    statement::Statement,
};

/// How long to be polite to a connection that is given up.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait for sessions to end before that is tried over another connection, and how often to
/// look.
const ENDING: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// The server, and how connections to it begin.
pub(crate) struct Server {
    pub(crate) options: MySqlConnectOptions,
    pub(crate) settings: Settings,
}

/// A connection of our own.
pub(crate) struct Own {
    pub(crate) connection: MySqlConnection,
    /// None where the server does not show it.
    pub(crate) session: Option<Session>,
}

/// A session of the server. Its number may mean something else at another server behind the same
/// address, so our end of the connection goes with it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session {
    id: i64,
    host: String,
}

impl Manager for Server {
    type Connection = Own;
    type Error = Failure;
    type Session = Session;

    async fn open(&self) -> Result<Own, Failure> {
        let (options, settings) = (self.options.clone(), self.settings.clone());
        contained(async move {
            let mut connection = options.connect().await.map_err(Failure::Connecting)?;
            settings.pin(&mut connection).await?;
            let sessions = Session::all(&mut connection, "CONNECTION_ID()").await?;
            Ok(Own { connection, session: sessions.into_iter().next() })
        })
        .await
        .unwrap_or_else(Failure::uncontained)
    }

    async fn ping(&self, own: &mut Own) -> Result<(), Failure> {
        own.connection.ping().await.map_err(Failure::Connecting)
    }

    fn is_transient(&self, failure: &Failure) -> bool {
        failure.passes()
    }

    fn session(&self, own: &Own) -> Option<Session> {
        own.session.clone()
    }

    async fn end(&self, ending: &[Session]) -> Result<Vec<bool>, Failure> {
        let (options, ending) = (self.options.clone(), ending.to_vec());
        contained(async move {
            let mut connection = options.connect().await.map_err(Failure::Connecting)?;
            let looking = Instant::now();
            loop {
                let mut alive = Session::all(&mut connection, "ID").await?;
                alive.retain(|session| ending.contains(session));
                if alive.is_empty() || looking.elapsed() > ENDING {
                    // Closed by the system at the latest.
                    let _ = timeout(FAREWELL, connection.close()).await;
                    return Ok(ending.iter().map(|session| !alive.contains(session)).collect());
                }
                for session in alive {
                    let kill = Arc::from("KILL CONNECTION $1");
                    // It may have ended by itself.
                    let _ = Statement::read(&kill).integer(session.id).run(&mut connection).await;
                }
                sleep(LOOK).await;
            }
        })
        .await
        .unwrap_or_else(Failure::uncontained)
    }
}

impl Session {
    /// Gives the sessions of this user whose number is the same as what `id` stands for.
    async fn all(connection: &mut MySqlConnection, id: &str) -> Result<Vec<Self>, Failure> {
        let answer = Statement::read(&sessions()).digits(id).run(connection).await;
        let rows = answer.map_err(Failure::in_opening)?.rows;
        let session = |row| {
            let host = text(row, "host").unwrap_or_default().to_owned();
            Ok(Self { id: value(row, "id")?, host })
        };
        rows.iter().map(session).collect()
    }
}
