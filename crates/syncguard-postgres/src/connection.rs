//! Running statements.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions, postgres::PgRow};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::pause,
    error::{Effect, Failure},
    pool::{Leased, Source},
    statement::{Sending, Statement, is_sound},
};

/// How often a statement that the server undid by itself, to get out of a conflict, is run again.
const CONFLICTS: usize = 8;

/// How long an answer may take beyond the time after which the server gives a statement up.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// How connections are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long it may take to get a connection.
    pub(crate) connect_timeout: Duration,
    /// How long a statement may run.
    pub(crate) statement_timeout: Duration,
    pub(crate) sending: Sending,
    /// How many connections may be found inside of transactions until that is an error.
    pub(crate) patience: usize,
}

/// All connections of a backend, but for the one that listens.
pub(crate) struct Connections {
    pub(crate) source: Source,
    pub(crate) limits: Limits,
    /// By which a connection is opened that is as the server makes it.
    pub(crate) plain: PgConnectOptions,
}

impl Connections {
    /// Runs a statement that gives one row.
    pub(crate) async fn row(self: &Arc<Self>, statement: Statement) -> Result<PgRow, Failure> {
        let row = self.rows(statement).await?.into_iter().next();
        row.ok_or(Failure::Unreadable("answer"))
    }

    /// Runs a statement in a transaction of its own, and gives its rows.
    ///
    /// It runs in a task of its own. In the caller's, a future that is left alone after its first
    /// poll would keep the connection from everybody else, and one that is dropped would leave it in
    /// the middle of an answer. Dropping the future gives up its place in the queue for a connection;
    /// a statement that was sent is carried to its end, and its connection given back.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        statement: Statement,
    ) -> Result<Vec<PgRow>, Failure> {
        let effect = statement.effect();
        let caller = CancellationToken::new();
        let _gone = caller.clone().drop_guard();
        let connections = self.clone();
        let task = tokio::spawn(async move { connections.run(&statement, &caller).await });
        task.await.unwrap_or(Err(Failure::CutOff(effect)))
    }

    async fn run(
        &self,
        statement: &Statement,
        caller: &CancellationToken,
    ) -> Result<Vec<PgRow>, Failure> {
        let (mut unsound, mut conflicts, mut repeats) = (0, 0, 0);
        loop {
            let leased = tokio::select! {
                biased;
                () = caller.cancelled() => return Err(Failure::CutOff(Effect::None)),
                leased = self.source.lease(self.limits.connect_timeout) => leased?,
            };
            match self.run_on(leased, statement).await {
                Err(Failure::Unsound) if unsound < self.limits.patience => unsound += 1,
                Err(failure) if failure.is_conflict() && conflicts < CONFLICTS => {
                    conflicts += 1;
                    sleep(pause(conflicts)).await;
                }
                // A connection may have been lost long ago without anybody noticing.
                Err(failure)
                    if failure.is_broken()
                        && statement.effect() == Effect::None
                        && repeats == 0 =>
                {
                    repeats += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn run_on(
        &self,
        mut leased: Leased,
        statement: &Statement,
    ) -> Result<Vec<PgRow>, Failure> {
        let Limits { statement_timeout, sending, .. } = self.limits;
        let answering = statement.run(leased.connection(), sending);
        let Ok(answer) = timeout(statement_timeout + ON_THE_WAY, answering).await else {
            leased.discard();
            self.source.drop_idle();
            return Err(Failure::TimedOut(statement.effect()));
        };
        match answer.map_err(|source| Failure::driver(source, statement.effect())) {
            Ok(rows) if is_sound(&rows) => {
                leased.give_back();
                Ok(rows)
            }
            Ok(_) | Err(Failure::Unsound) => {
                tracing::warn!(
                    "a connection of the pool was inside a transaction that nobody ended, as a \
                     cancelled `begin` leaves it; it is closed"
                );
                leased.close().await;
                Err(Failure::Unsound)
            }
            Err(failure) if failure.is_broken() => {
                leased.discard();
                self.source.drop_idle();
                Err(failure)
            }
            Err(failure) => {
                leased.give_back();
                Err(failure)
            }
        }
    }

    /// Runs a statement that gives one row, on a connection as others of this role get it. Where the
    /// connections are the caller's, they are what others get.
    pub(crate) async fn plain_row(
        self: &Arc<Self>,
        statement: Statement,
    ) -> Result<PgRow, Failure> {
        if let Source::Callers(_) = self.source {
            return self.row(statement).await;
        }
        let mut connection = self.open_plain().await?;
        let answering = statement.run(&mut connection, Sending::Whole);
        let answer = timeout(self.limits.statement_timeout, answering).await;
        let answer = answer.map_err(|_| Failure::TimedOut(statement.effect()))?;
        let rows = answer.map_err(|source| Failure::driver(source, statement.effect()))?;
        // It is closed in any case.
        let _ = timeout(ON_THE_WAY, connection.close()).await;
        rows.into_iter().next().ok_or(Failure::Unreadable("answer"))
    }

    /// Runs a text of several statements as one transaction, on a connection of its own.
    pub(crate) async fn run_text(&self, text: String) -> Result<(), Failure> {
        let mut connection = self.open_plain().await?;
        let running = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection);
        match timeout(self.limits.statement_timeout, running).await {
            Ok(done) => done.map_err(|source| Failure::driver(source, Effect::None))?,
            Err(_) => return Err(Failure::TimedOut(Effect::None)),
        };
        // It is closed in any case.
        let _ = timeout(ON_THE_WAY, connection.close()).await;
        Ok(())
    }

    /// Opens a connection that asks for no settings.
    pub(crate) async fn open_plain(&self) -> Result<sqlx::PgConnection, Failure> {
        let limit = self.limits.connect_timeout;
        match timeout(limit, self.plain.connect()).await {
            Ok(opened) => opened.map_err(Failure::Connecting),
            Err(_) => Err(Failure::Unconnected(limit)),
        }
    }
}
