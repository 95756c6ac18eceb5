//! Running statements.

use std::{pin::pin, sync::Arc, time::Duration};

use sqlx::mysql::MySqlRow;
use syncguard_core::pool::{Lease, MAX_ENDING, Pool, Priority, Reply, call};
use tokio::{runtime::Handle, time::timeout};

use syncguard_core::backend::Effect;

use crate::{
    conflict::Conflicts,
    error::Failure,
    pool::Server,
    statement::{Answer, Statement},
};

/// How long the client waits for an answer beyond the time after which the server cancels a
/// statement.
const RESPONSE_GRACE: Duration = Duration::from_millis(500);

/// All connections of a backend.
pub(crate) struct Connections {
    pub(crate) pool: Pool<Server>,
    /// How long a statement may run.
    pub(crate) statement_timeout: Duration,
    /// The runtime on which the backend was opened. Connections live on it, and statements run on
    /// it.
    pub(crate) runtime: Handle,
}

impl Connections {
    /// Runs a statement that returns one row, after all operations that extend or release a lock.
    pub(crate) async fn row(self: &Arc<Self>, statement: Statement) -> Result<MySqlRow, Failure> {
        self.row_for(Priority::Acquire, statement).await
    }

    /// Runs a statement that returns one row.
    pub(crate) async fn row_for(
        self: &Arc<Self>,
        priority: Priority,
        statement: Statement,
    ) -> Result<MySqlRow, Failure> {
        let row = self.run_for(priority, statement).await?.rows.into_iter().next();
        row.ok_or(Failure::UnreadableAnswer("answer"))
    }

    /// Runs a statement, after all operations that extend or release a lock, and returns its
    /// answer.
    pub(crate) async fn run(self: &Arc<Self>, statement: Statement) -> Result<Answer, Failure> {
        self.run_for(Priority::Acquire, statement).await
    }

    /// Runs a statement in its own transaction, in its own task, and returns its answer.
    ///
    /// Dropping the future gives up its place in the queue for a connection. A statement that was
    /// sent is completed, and its connection is returned.
    pub(crate) async fn run_for(
        self: &Arc<Self>,
        priority: Priority,
        statement: Statement,
    ) -> Result<Answer, Failure> {
        let (connections, effect) = (self.clone(), statement.effect());
        let running =
            |reply| async move { connections.run_to_end(priority, &statement, reply).await };
        let reply = call(&self.runtime, running).await;
        reply.unwrap_or_else(|interrupted| Err(Failure::interrupted(interrupted, effect)))
    }

    async fn run_to_end(
        &self,
        priority: Priority,
        statement: &Statement,
        mut reply: Reply<Result<Answer, Failure>>,
    ) {
        reply.started();
        let (mut conflicts, mut repeats) = (Conflicts::default(), 0);
        loop {
            let leased = tokio::select! {
                biased;
                () = reply.caller_gone() => return,
                leased = self.pool.lease(priority) => leased,
            };
            let leased = match leased {
                Ok(leased) => leased,
                Err(error) => return reply.send(Err(conflicts.settle(error.into()))),
            };
            reply.sending();
            match self.run_on(leased, statement, &mut reply).await {
                Err(failure) if failure.is_conflict() => {
                    if let Err(failure) = conflicts.pause(failure).await {
                        return reply.send(Err(conflicts.settle(failure)));
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
                outcome => {
                    return reply.send(outcome.map_err(|failure| conflicts.settle(failure)));
                }
            }
        }
    }

    async fn run_on(
        &self,
        mut leased: Lease<Server>,
        statement: &Statement,
        reply: &mut Reply<Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let Some(answer) = self.answer(&mut leased, statement, reply).await else {
            leased.abandon();
            self.pool.suspect_idle();
            return Err(Failure::TimedOut(statement.effect()));
        };
        if answer.as_ref().is_err_and(Failure::is_broken) {
            drop(leased);
            self.pool.suspect_idle();
        } else {
            leased.give_back();
        }
        answer
    }

    /// Waits for the answer to a statement, for as long as the statement may take.
    ///
    /// MySQL never cancels a statement that writes, and neither server cancels a commit that waits.
    /// Therefore the session is then ended from another connection. If the session could not be
    /// identified, closing the connection would not end it: the caller then gets its answer, and
    /// the connection keeps its place while the server's answer may still arrive.
    async fn answer(
        &self,
        leased: &mut Lease<Server>,
        statement: &Statement,
        reply: &mut Reply<Result<Answer, Failure>>,
    ) -> Option<Result<Answer, Failure>> {
        let own = leased.connection();
        let has_session = own.session.is_some();
        let mut answering = pin!(statement.run(&mut own.connection));
        let answer = timeout(self.statement_timeout + RESPONSE_GRACE, &mut answering).await.ok();
        if answer.is_none() && !has_session {
            reply.send(Err(Failure::TimedOut(statement.effect())));
            let _ = timeout(MAX_ENDING, answering).await;
        }
        answer
    }
}
