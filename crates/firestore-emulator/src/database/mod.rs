//! All stored data, and the operations on it.
//!
//! **Invariant: a request reads or writes everything in one critical section**, after it was
//! granted its locks in that same section. Nothing can happen between the grant and the operation.

mod commit;
mod reading;
mod waiting;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gcloud_sdk::google::firestore::v1::TransactionOptions;
use tonic::Status;

pub(crate) use reading::Reading;

use crate::{
    name::{DatabaseName, DocumentName},
    store::{Documents, Stored},
    time::{Clock, ClockOffset, Time},
    transaction::{
        Concurrency, EndReason, Limits, Locks, Mode, Party, RequestedMode, Transaction,
        TransactionId, Transactions, expired,
    },
    watchers::Watchers,
};

/// The data that a server serves. It outlasts the server, so that one can be restarted on the same
/// data.
#[derive(Debug)]
pub(crate) struct Database {
    state: Mutex<State>,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) concurrency: Concurrency,
    pub(crate) limits: Limits,
    pub(crate) retention: Duration,
    pub(crate) clock_offset: ClockOffset,
}

/// The state at a moment.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) watchers: Watchers,
    clock: Clock,
    documents: Documents,
    transactions: Transactions,
    locks: Locks,
    commits: u64,
}

impl Database {
    pub(crate) fn new(settings: Settings) -> Self {
        let state = State {
            watchers: Watchers::default(),
            clock: Clock::new(settings.clock_offset),
            documents: Documents::default(),
            transactions: Transactions::default(),
            locks: Locks::default(),
            commits: 0,
        };
        Self { state: Mutex::new(state), settings }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic has changed nothing yet: a batch is computed before it is installed.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end_overdue(&self.settings.limits);
        state
    }

    pub(crate) fn set_clock_offset(&self, offset: ClockOffset) {
        self.state().clock.set_offset(offset);
    }

    /// Returns the time that long ago.
    pub(crate) fn ago(&self, duration: Duration) -> Time {
        self.state().clock.read().before(duration)
    }

    /// Ends all transactions, as a server does that shuts down.
    pub(crate) fn end_transactions(&self) {
        let mut state = self.state();
        for id in state.transactions.ids() {
            state.end(id, EndReason::Expired);
        }
    }

    pub(crate) fn begin(
        &self,
        database: DatabaseName,
        options: Option<TransactionOptions>,
    ) -> Result<TransactionId, Status> {
        let requested = RequestedMode::parse(options, self.settings.concurrency)?;
        let mut state = self.state();
        let (mode, retried) = match requested {
            RequestedMode::ReadOnly { at: Some(time) } => {
                (Mode::ReadOnly(self.readable(&mut state, time)?), None)
            }
            RequestedMode::ReadOnly { at: None } => (Mode::ReadOnly(state.clock.read()), None),
            RequestedMode::ReadWrite { concurrency: Concurrency::Optimistic, retried } => {
                (Mode::Optimistic(state.clock.read()), retried)
            }
            RequestedMode::ReadWrite { concurrency: Concurrency::Pessimistic, retried } => {
                (Mode::Pessimistic, retried)
            }
        };
        Ok(state.transactions.begin(database, mode, retried))
    }

    pub(crate) fn rollback(
        &self,
        database: &DatabaseName,
        id: TransactionId,
    ) -> Result<(), Status> {
        let mut state = self.state();
        state.transactions.using(id, database)?;
        state.end(id, EndReason::Expired);
        Ok(())
    }

    /// Refuses times in the future, and times whose versions may have been dropped.
    fn readable(&self, state: &mut State, time: Time) -> Result<Time, Status> {
        let now = state.clock.read();
        if time > now {
            return Err(Status::invalid_argument("the read time is in the future"));
        }
        if time < now.before(self.settings.retention) {
            return Err(Status::failed_precondition("the requested snapshot is too old"));
        }
        Ok(time)
    }
}

impl State {
    /// Reads the present version of a document. Also returns the read time.
    pub(crate) fn latest(&mut self, name: &DocumentName) -> (Stored, Time) {
        (self.documents.read(name, Time::END), self.clock.read())
    }

    /// Ends a transaction and releases its locks.
    fn end(&mut self, id: TransactionId, reason: EndReason) -> Option<Transaction> {
        let ended = self.transactions.end(id);
        self.locks.release(Party::Transaction(id), reason);
        ended
    }

    fn end_overdue(&mut self, limits: &Limits) {
        for id in self.transactions.overdue(limits, &self.locks) {
            self.end(id, EndReason::Expired);
        }
    }

    fn using(&mut self, id: TransactionId, of: &DatabaseName) -> Result<&mut Transaction, Status> {
        self.transactions.using(id, of)
    }

    /// Finds a transaction after a wait, in which it may have ended.
    fn still_using(&mut self, id: TransactionId) -> Result<&mut Transaction, Status> {
        self.transactions.find(id).ok_or_else(expired)
    }
}
