use std::{collections::BTreeSet, sync::Arc};

use tokio::{sync::Notify, time::Instant};
use tonic::Status;

use super::{Database, State};
use crate::{
    name::DocumentName,
    transaction::{Access, Doom, Party, Ticket, contention, doomed, victim},
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
        act: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let place = self.queue(party, access, names)?;
        let patience = Instant::now() + self.settings.limits.lock_wait;
        let mut act = Some(act);
        loop {
            let look_again = {
                let mut state = self.state();
                if state.locks.is_free(place.ticket).map_err(doomed)?
                    && let Some(act) = act.take()
                {
                    state.locks.grant(place.ticket);
                    return act(&mut state);
                }
                if Instant::now() >= patience {
                    return Err(state.give_up(party));
                }
                // Nothing else wakes waiters for a transaction that is no longer used.
                let expiry = state.transactions.next_deadline(&self.settings.limits);
                expiry.map_or(patience, |expiry| expiry.min(patience))
            };
            let _ = tokio::time::timeout_at(look_again, place.wake.notified()).await;
        }
    }

    /// Begins to wait, unless the transaction has ended: its locks would never be released. A
    /// transaction that ends from here on ends this request as well.
    fn queue(
        &self,
        party: Party,
        access: Access,
        names: BTreeSet<DocumentName>,
    ) -> Result<Place<'_>, Status> {
        let mut state = self.state();
        if let Party::Transaction(id) = party {
            state.still_using(id)?;
        }
        let (ticket, wake) = state.locks.request(party, access, names);
        state.break_deadlocks(party);
        Ok(Place { database: self, ticket, wake })
    }
}

impl State {
    /// Ends transactions until no deadlock is left. A deadlock arises when a party begins to wait,
    /// and includes that party, so this is the time and the place to look.
    fn break_deadlocks(&mut self, party: Party) {
        while let Some(victim) = victim(&self.locks, party) {
            self.end(victim, Doom::Deadlock);
        }
    }

    fn give_up(&mut self, party: Party) -> Status {
        if let Party::Transaction(id) = party {
            self.end(id, Doom::Deadlock);
        }
        contention()
    }
}

/// A place in the queue. Dropping it leaves the queue.
struct Place<'a> {
    database: &'a Database,
    ticket: Ticket,
    wake: Arc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.database.state().locks.withdraw(self.ticket);
    }
}
