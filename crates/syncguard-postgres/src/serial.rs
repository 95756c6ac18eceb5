//! Sending one statement at a time.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use syncguard_core::pool::Priority;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::timeout,
};

use crate::{connection::Connections, error::Failure, pool::Leased, statement::Statement};

/// Sends statements one after the other.
#[derive(Clone)]
pub(crate) struct Serial {
    connections: Arc<Connections>,
    turn: Arc<Semaphore>,
}

/// A connection, and the turn.
pub(crate) struct SerialLease {
    leased: Leased,
    priority: Priority,
    turn: OwnedSemaphorePermit,
}

impl Serial {
    pub(crate) fn new(connections: &Arc<Connections>) -> Self {
        Self { connections: connections.clone(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for the turn and leases a connection, within the limit on waiting for a connection. If
    /// it fails, nothing was sent.
    pub(crate) async fn lease(&self, priority: Priority) -> Result<SerialLease, Failure> {
        let limit = self.connections.limits.connect_timeout;
        if let Ok(turn) = self.turn.clone().try_acquire_owned() {
            // The pool has the same limit, and reports what it knows of the cause.
            return self.lease_in(turn, priority).await;
        }
        let leasing = async {
            let turn = self.turn.clone().acquire_owned().await;
            self.lease_in(turn.map_err(|_closed| Failure::RuntimeEnded)?, priority).await
        };
        timeout(limit, leasing).await.unwrap_or(Err(Failure::Unconnected(limit)))
    }

    async fn lease_in(
        &self,
        turn: OwnedSemaphorePermit,
        priority: Priority,
    ) -> Result<SerialLease, Failure> {
        // Tasks that are ready, mostly by the answers of the last batch, first queue what they send.
        yield_now().await;
        let leased = self.connections.source.lease(priority).await?;
        Ok(SerialLease { leased, priority, turn })
    }

    /// Runs a statement that returns one row.
    pub(crate) async fn row(
        &self,
        lease: SerialLease,
        statement: Statement,
    ) -> Result<PgRow, Failure> {
        let SerialLease { leased, priority, turn } = lease;
        let rows = self.connections.run_leased(leased, priority, statement).await;
        drop(turn);
        rows?.into_iter().next().ok_or(Failure::UnreadableAnswer("answer"))
    }
}
