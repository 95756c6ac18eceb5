use std::{collections::BTreeSet, sync::Arc};

use tokio::{sync::Notify, time::Instant};
use tonic::Status;

use super::{Database, State};
use crate::{
    name::DocumentName,
    transaction::{Access, EndReason, Party, Ticket, contention, end_error, victim},
};

impl Database {
    /// Runs an operation under locks. A shared lock stays when it is done; an exclusive one is held
    /// only for its duration.
    ///
    /// # Cancel safety
    ///
    /// If dropped before the locks were granted, it leaves the queue, and nothing was done.
    pub(super) async fn locked<T>(
        &self,
        party: Party,
        access: Access,
        names: BTreeSet<DocumentName>,
        operation: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let guard = self.queue(party, access, names)?;
        let deadline = Instant::now() + self.settings.limits.lock_wait;
        let mut operation = Some(operation);
        loop {
            let next_check = {
                let mut state = self.state();
                if state.locks.is_free(guard.ticket).map_err(end_error)?
                    && let Some(operation) = operation.take()
                {
                    state.locks.grant(guard.ticket);
                    return operation(&mut state);
                }
                if Instant::now() >= deadline {
                    return Err(state.abort_wait(party));
                }
                // Nothing else wakes waiters for a transaction that is no longer used.
                let expiry = state.transactions.next_deadline(&self.settings.limits);
                expiry.map_or(deadline, |expiry| expiry.min(deadline))
            };
            let _ = tokio::time::timeout_at(next_check, guard.wake.notified()).await;
        }
    }

    /// Begins to wait, unless the transaction has ended: its locks would never be released. A
    /// transaction that ends from here on ends this request as well.
    fn queue(
        &self,
        party: Party,
        access: Access,
        names: BTreeSet<DocumentName>,
    ) -> Result<QueueGuard<'_>, Status> {
        let mut state = self.state();
        if let Party::Transaction(id) = party {
            state.still_using(id)?;
        }
        let (ticket, wake) = state.locks.request(party, access, names);
        state.break_deadlocks(party);
        Ok(QueueGuard { database: self, ticket, wake })
    }
}

impl State {
    /// Ends transactions until no deadlock is left. A deadlock arises when a party begins to wait,
    /// and includes that party, so it is sufficient to search from there.
    fn break_deadlocks(&mut self, party: Party) {
        while let Some(victim) = victim(&self.locks, party) {
            self.end(victim, EndReason::Deadlock);
        }
    }

    fn abort_wait(&mut self, party: Party) -> Status {
        if let Party::Transaction(id) = party {
            self.end(id, EndReason::Deadlock);
        }
        contention()
    }
}

/// A request in the queue. Dropping the guard withdraws the request.
struct QueueGuard<'a> {
    database: &'a Database,
    ticket: Ticket,
    wake: Arc<Notify>,
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        self.database.state().locks.withdraw(self.ticket);
    }
}
