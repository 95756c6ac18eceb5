//! Running statements.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions, postgres::PgRow};
use syncguard_core::{
    Jitter, Retry,
    backend::Effect,
    pool::{MAX_ENDING, Priority, Reply, call},
};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use crate::{
    error::Failure,
    pool::{Leased, Source},
    statement::{Sending, Statement, in_own_transaction},
};

/// How many times a statement that the server undid, to resolve a conflict, is run again.
const MAX_RERUNS: u32 = 8;

/// Returns the pauses before the reruns. They have full jitter: without it, statements that
/// conflicted would conflict again.
fn conflict_pauses() -> impl Iterator<Item = Duration> + Send {
    let retry = Retry::exponential(Duration::from_millis(2)).max_delay(Duration::from_millis(128));
    retry.jitter(Jitter::Full).limit(MAX_RERUNS).delays()
}

/// How long the client waits for an answer beyond the time after which the server cancels a
/// statement.
const RESPONSE_GRACE: Duration = Duration::from_millis(500);

/// How connections are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The limit on waiting for a connection.
    pub(crate) connect_timeout: Duration,
    /// How long a statement may run.
    pub(crate) statement_timeout: Duration,
    pub(crate) sending: Sending,
    /// How many connections that are inside a transaction a statement replaces. One more is an
    /// error.
    pub(crate) max_replacements: usize,
}

/// The connections on which statements run.
pub(crate) struct Connections {
    pub(crate) source: Source,
    pub(crate) limits: Limits,
    /// The options of a connection with the server's own settings.
    pub(crate) plain: PgConnectOptions,
    /// The runtime on which the backend was opened. Connections live on it, and statements run on
    /// it.
    pub(crate) runtime: Handle,
}

type Rows = Result<Vec<PgRow>, Failure>;

impl Connections {
    /// Runs a statement that returns one row, after all operations that extend or release a lock.
    pub(crate) async fn row(self: &Arc<Self>, statement: Statement) -> Result<PgRow, Failure> {
        self.row_for(Priority::Acquire, statement).await
    }

    /// Runs a statement that returns one row.
    pub(crate) async fn row_for(
        self: &Arc<Self>,
        priority: Priority,
        statement: Statement,
    ) -> Result<PgRow, Failure> {
        let row = self.run(priority, statement).await?.into_iter().next();
        row.ok_or(Failure::UnreadableAnswer("answer"))
    }

    /// Runs a statement, after all operations that extend or release a lock, and returns its rows.
    pub(crate) async fn rows(self: &Arc<Self>, statement: Statement) -> Rows {
        self.run(Priority::Acquire, statement).await
    }

    /// Runs a statement in its own transaction, in its own task.
    ///
    /// Dropping the future gives up its place in the queue for a connection. A statement that was
    /// sent is completed, and its connection is returned.
    async fn run(self: &Arc<Self>, priority: Priority, statement: Statement) -> Rows {
        self.run_first_on(None, priority, statement).await
    }

    /// Runs a statement as [`run`](Self::run) does, on a connection that is leased already.
    pub(crate) async fn run_leased(
        self: &Arc<Self>,
        leased: Leased,
        priority: Priority,
        statement: Statement,
    ) -> Rows {
        self.run_first_on(Some(leased), priority, statement).await
    }

    async fn run_first_on(
        self: &Arc<Self>,
        leased: Option<Leased>,
        priority: Priority,
        statement: Statement,
    ) -> Rows {
        let (connections, effect) = (self.clone(), statement.effect());
        let running = |reply| async move {
            connections.run_to_end(leased, priority, &statement, reply).await;
        };
        let reply = call(&self.runtime, running).await;
        reply.unwrap_or_else(|interrupted| Err(Failure::interrupted(interrupted, effect)))
    }

    /// Runs a statement, over the connection that was leased for it or over another one.
    async fn run_to_end(
        &self,
        mut first: Option<Leased>,
        priority: Priority,
        statement: &Statement,
        mut reply: Reply<Rows>,
    ) {
        reply.started();
        let (mut in_transaction, mut pauses, mut repeats) = (0, None, 0);
        loop {
            let leased = match first.take() {
                Some(leased) => Ok(leased),
                None => tokio::select! {
                    biased;
                    () = reply.caller_gone() => return,
                    leased = self.source.lease(priority) => leased,
                },
            };
            let leased = match leased {
                Ok(leased) => leased,
                Err(failure) => return reply.send(Err(failure)),
            };
            reply.sending();
            match self.run_on(leased, statement, &mut reply).await {
                Err(Failure::InTransaction) if in_transaction < self.limits.max_replacements => {
                    in_transaction += 1;
                }
                Err(failure) if failure.is_conflict() => {
                    match pauses.get_or_insert_with(conflict_pauses).next() {
                        Some(pause) => sleep(pause).await,
                        None => return reply.send(Err(failure)),
                    }
                }
                // A connection may have been lost long ago without anyone noticing.
                Err(failure)
                    if failure.is_broken()
                        && statement.effect() == Effect::NotApplied
                        && repeats == 0 =>
                {
                    repeats += 1;
                }
                outcome => return reply.send(outcome),
            }
        }
    }

    async fn run_on(
        &self,
        mut leased: Leased,
        statement: &Statement,
        reply: &mut Reply<Rows>,
    ) -> Rows {
        let Some(answer) = self.answer(&mut leased, statement, reply).await else {
            leased.abandon();
            self.source.suspect_idle();
            return Err(Failure::TimedOut(statement.effect()));
        };
        match answer.map_err(|source| Failure::driver(source, statement.effect())) {
            Ok(rows) if in_own_transaction(&rows) => {
                leased.give_back();
                Ok(rows)
            }
            Ok(_) | Err(Failure::InTransaction) => {
                tracing::warn!(
                    "a connection of the pool was inside a transaction that was not ended, as a \
                     cancelled `begin` leaves it; it is closed"
                );
                leased.close().await;
                Err(Failure::InTransaction)
            }
            Err(failure) if failure.is_broken() => {
                leased.discard();
                self.source.suspect_idle();
                Err(failure)
            }
            Err(failure) => {
                leased.give_back();
                Err(failure)
            }
        }
    }

    /// Waits for the answer to a statement, for as long as the statement may take.
    ///
    /// The server cancels a statement by itself, but not a commit that waits for a standby. If the
    /// session is ours, it is then ended from another connection. If it belongs to a pooler or to
    /// the caller's pool, it is not known, and closing the connection would not end it. The caller
    /// then gets its answer, and the connection keeps its place while the server's answer may still
    /// arrive.
    async fn answer(
        &self,
        leased: &mut Leased,
        statement: &Statement,
        reply: &mut Reply<Rows>,
    ) -> Option<Result<Vec<PgRow>, sqlx::Error>> {
        let Limits { statement_timeout, sending, .. } = self.limits;
        let has_session = leased.has_session();
        let answering = async { statement.run(leased.connection().await?, sending).await };
        let mut answering = pin!(answering);
        let answer = timeout(statement_timeout + RESPONSE_GRACE, &mut answering).await.ok();
        if answer.is_none() && !has_session {
            reply.send(Err(Failure::TimedOut(statement.effect())));
            let _ = timeout(MAX_ENDING, answering).await;
        }
        answer
    }

    /// Runs work on the runtime of the backend.
    async fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let running = |mut reply: Reply<_>| async move {
            reply.started();
            reply.send(work.await);
        };
        let reply = call(&self.runtime, running).await;
        reply.unwrap_or_else(|interrupted| {
            Err(Failure::interrupted(interrupted, Effect::NotApplied))
        })
    }

    /// Waits, by the timer of the backend's runtime: the caller's runtime may have none.
    pub(crate) async fn pause(&self, time: Duration) -> Result<(), Failure> {
        let waiting = async move {
            sleep(time).await;
            Ok(())
        };
        self.on_runtime(waiting).await
    }

    /// Runs a statement that returns one row, on a connection with the settings that other sessions
    /// of this role get. If the connections are the caller's, it uses one of those.
    pub(crate) async fn plain_row(
        self: &Arc<Self>,
        statement: Statement,
    ) -> Result<PgRow, Failure> {
        if let Source::Callers { .. } = self.source {
            return self.row(statement).await;
        }
        let connections = self.clone();
        let asking = async move {
            let mut connection = connections.open_plain().await?;
            let answering = statement.run(&mut connection, Sending::Unprepared);
            let answer = timeout(connections.limits.statement_timeout, answering).await;
            let answer = answer.map_err(|_| Failure::TimedOut(statement.effect()))?;
            let rows = answer.map_err(|source| Failure::driver(source, statement.effect()))?;
            // Dropping the connection closes it if this times out.
            let _ = timeout(RESPONSE_GRACE, connection.close()).await;
            rows.into_iter().next().ok_or(Failure::UnreadableAnswer("answer"))
        };
        self.on_runtime(asking).await
    }

    /// Runs a text of several statements as one transaction, on a new connection.
    pub(crate) async fn run_text(self: &Arc<Self>, text: String) -> Result<(), Failure> {
        let connections = self.clone();
        let running = async move {
            let mut connection = connections.open_plain().await?;
            let running = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection);
            match timeout(connections.limits.statement_timeout, running).await {
                Ok(done) => done.map_err(|source| Failure::driver(source, Effect::NotApplied))?,
                Err(_) => return Err(Failure::TimedOut(Effect::NotApplied)),
            };
            // Dropping the connection closes it if this times out.
            let _ = timeout(RESPONSE_GRACE, connection.close()).await;
            Ok(())
        };
        self.on_runtime(running).await
    }

    /// Opens a connection that requests no settings.
    pub(crate) async fn open_plain(&self) -> Result<sqlx::PgConnection, Failure> {
        let limit = self.limits.connect_timeout;
        match timeout(limit, self.plain.connect()).await {
            Ok(opened) => opened.map_err(Failure::Connecting),
            Err(_) => Err(Failure::Unconnected(limit)),
        }
    }
}
