//! The queue of extends that wait for a connection, and the statements that send them.

use std::sync::Arc;

use sqlx::SqlStr;
use syncguard_core::{
    LockId, Timestamp, Ttl,
    backend::{Effect, ExtendOutcome, NotHeld},
    pool::{BatchLimits, Batcher, Priority, SendBatch},
};

use crate::{
    batch::{BATCH_SIZE, Firsts},
    connection::Connections,
    error::Failure,
    pool::Leased,
    row::{GRACE_MS, value},
    sql::Sql,
    statement::Statement,
};

/// The extends that wait for a connection.
pub(crate) type Extends = Batcher<Sender>;

/// How extends are sent.
pub(crate) struct Sender {
    connections: Arc<Connections>,
    extend: SqlStr,
    extend_many: SqlStr,
}

/// One extend.
#[derive(Clone, Copy)]
pub(crate) struct Extend {
    pub(crate) lock_id: LockId,
    pub(crate) ttl: Ttl,
}

/// Creates the queue in which extends wait for one of `size` connections.
pub(crate) fn queue(connections: &Arc<Connections>, sql: &Sql, size: usize) -> Extends {
    let (extend, extend_many) = (sql.extend.clone(), sql.extend_many.clone());
    let sender = Sender { connections: connections.clone(), extend, extend_many };
    let limits = BatchLimits { requests: BATCH_SIZE, connections: size };
    Batcher::new(sender, limits, connections.runtime.clone())
}

impl SendBatch for Sender {
    type Request = Extend;
    type Answer = ExtendOutcome;
    type Error = Failure;
    type Leased = Leased;

    async fn lease(&self) -> Result<Leased, Failure> {
        self.connections.source.lease(Priority::Extend).await
    }

    async fn send_one(&self, leased: Leased, extend: &Extend) -> Result<ExtendOutcome, Failure> {
        let statement = Statement::write(&self.extend)
            .text(extend.lock_id.as_str())
            .integer(extend.ttl.as_millis())
            .integer(GRACE_MS);
        let rows = self.connections.run_leased(leased, Priority::Extend, statement).await?;
        let row = rows.first().ok_or(Failure::UnreadableAnswer("answer"))?;
        value(row, "expires_at_ms").map(outcome)
    }

    /// The statement waits for no one: it leaves out an extend that would have to wait. If the
    /// server refuses the statement, it refuses all of it. The extends that were left out, all
    /// extends of a refused statement, and the second extend of one id, which has its own answer,
    /// are sent alone.
    async fn send_many(
        &self,
        leased: Leased,
        extends: &[Extend],
    ) -> Result<Vec<Option<ExtendOutcome>>, Failure> {
        let firsts = Firsts::of(extends, |extend| extend.lock_id);
        let statement = Statement::write(&self.extend_many)
            .texts(
                firsts.requests.iter().map(|extend| extend.lock_id.as_str().to_owned()).collect(),
            )
            .integers(firsts.requests.iter().map(|extend| extend.ttl.as_millis()).collect())
            .integer(GRACE_MS);
        let rows = match self.connections.run_leased(leased, Priority::Extend, statement).await {
            Err(Failure::Driver(_, Effect::NotApplied)) => return Ok(Vec::new()),
            rows => rows?,
        };
        let mut rows = rows.iter();
        let answer = |_| {
            let row = rows.next().ok_or(Failure::UnreadableAnswer("answer"))?;
            let is_busy: bool = value(row, "busy")?;
            let expires_at = value(row, "expires_at_ms")?;
            Ok((!is_busy).then(|| outcome(expires_at)))
        };
        let answers: Result<_, Failure> = firsts.requests.iter().map(answer).collect();
        Ok(firsts.spread(answers?))
    }
}

fn outcome(expires_at: Option<i64>) -> ExtendOutcome {
    match expires_at.map(Timestamp::from_unix_millis) {
        Some(expires_at) => ExtendOutcome::Extended { expires_at },
        None => ExtendOutcome::NotHeld(NotHeld::Unknown),
    }
}
