//! Running statements.

use std::{sync::Arc, time::Duration};

use sqlx::mysql::MySqlRow;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    conflict::Conflicts,
    error::{Effect, Failure},
    pool::{Leased, Pool},
    statement::{Answer, Statement},
};

/// How long an answer may take beyond the time after which the server gives a statement up.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// All connections of a backend.
pub(crate) struct Connections {
    pub(crate) pool: Arc<Pool>,
    /// How long a statement may run.
    pub(crate) statement_timeout: Duration,
}

impl Connections {
    /// Runs a statement that gives one row.
    pub(crate) async fn row(self: &Arc<Self>, statement: Statement) -> Result<MySqlRow, Failure> {
        let row = self.run(statement).await?.rows.into_iter().next();
        row.ok_or(Failure::Unreadable("answer"))
    }

    /// Runs a statement in a transaction of its own, and gives its answer.
    ///
    /// It runs in a task of its own. In the caller's, a future that is left alone after its first
    /// poll would keep the connection from everybody else, and one that is dropped would leave it in
    /// the middle of an answer. Dropping the future gives up its place in the queue for a connection;
    /// a statement that was sent is carried to its end, and its connection given back.
    pub(crate) async fn run(self: &Arc<Self>, statement: Statement) -> Result<Answer, Failure> {
        let effect = statement.effect();
        let caller = CancellationToken::new();
        let _gone = caller.clone().drop_guard();
        let connections = self.clone();
        let task = tokio::spawn(async move { connections.repeat(&statement, &caller).await });
        task.await.unwrap_or(Err(Failure::CutOff(effect)))
    }

    async fn repeat(
        &self,
        statement: &Statement,
        caller: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let (mut conflicts, mut repeats) = (Conflicts::default(), 0);
        loop {
            let leased = tokio::select! {
                biased;
                () = caller.cancelled() => return Err(Failure::CutOff(Effect::None)),
                leased = self.pool.lease() => {
                    leased.map_err(|failure| conflicts.settle(failure))?
                }
            };
            match self.run_on(leased, statement).await {
                Err(failure) if conflicts.may_run_again(&failure) => {
                    conflicts.pause(&failure).await;
                }
                // A connection may have been lost long ago without anybody noticing.
                Err(failure)
                    if failure.is_broken()
                        && statement.effect() == Effect::None
                        && repeats == 0 =>
                {
                    repeats += 1;
                }
                outcome => return outcome.map_err(|failure| conflicts.settle(failure)),
            }
        }
    }

    async fn run_on(&self, mut leased: Leased, statement: &Statement) -> Result<Answer, Failure> {
        let running = statement.run(leased.connection());
        let answer = timeout(self.statement_timeout + ON_THE_WAY, running).await;
        let answer = answer.unwrap_or(Err(Failure::TimedOut(statement.effect())));
        if answer.as_ref().is_err_and(Failure::is_broken) {
            // It is dropped. The others probably broke as well.
            self.pool.drop_idle();
        } else {
            leased.give_back();
        }
        answer
    }
}
