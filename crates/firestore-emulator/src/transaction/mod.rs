//! Transactions: their reads, their limits and their locks.

mod deadlock;
mod id;
mod locks;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use gcloud_sdk::{
    google::firestore::v1::{
        TransactionOptions,
        transaction_options::{ConcurrencyMode, Mode as ModeMessage, ReadWrite},
    },
    prost_types::Timestamp,
};
use tokio::time::Instant;
use tonic::Status;

pub(crate) use deadlock::victim;
pub(crate) use id::TransactionId;
pub(crate) use locks::{Access, EndReason, Locks, Party, Ticket};

use crate::{
    name::{DatabaseName, DocumentName},
    query::Query,
    time::Time,
};

/// How read-write transactions are isolated from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Reads lock, and writers wait. This is the service's default for a database.
    Pessimistic,
    /// No transaction waits, and a commit fails if what was read has changed since.
    Optimistic,
}

/// How long transactions may live and wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
    pub(crate) lock_wait: Duration,
}

impl Default for Limits {
    /// The first two are the documented limits of the service. It bounds waiting for locks as well,
    /// but does not document how.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            total: Duration::from_secs(270),
            lock_wait: Duration::from_secs(20),
        }
    }
}

/// How a transaction reads and commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It reads as of a time, and writes nothing.
    ReadOnly(Time),
    /// It reads as of a time, and its commit fails if what it read has changed since.
    Optimistic(Time),
    /// It reads the present state, and keeps that from changing.
    Pessimistic,
}

impl Mode {
    pub(crate) fn snapshot(self) -> Option<Time> {
        match self {
            Self::ReadOnly(time) | Self::Optimistic(time) => Some(time),
            Self::Pessimistic => None,
        }
    }
}

/// The result of a query: enough to check whether it would find the same again.
pub(crate) type Found = Vec<(DocumentName, Option<Timestamp>)>;

#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) database: DatabaseName,
    pub(crate) mode: Mode,
    /// Documents that were read individually. Those of a pessimistic transaction are locked
    /// instead.
    pub(crate) reads: BTreeSet<DocumentName>,
    pub(crate) queries: Vec<(Query, Found)>,
    started: Instant,
    used: Instant,
}

/// The transactions that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    active: HashMap<TransactionId, Transaction>,
    begun: u64,
}

impl Transactions {
    pub(crate) fn begin(
        &mut self,
        database: DatabaseName,
        mode: Mode,
        retried: Option<TransactionId>,
    ) -> TransactionId {
        self.begun += 1;
        let first = TransactionId::first(self.begun);
        let id = retried.map_or(first, |retried| retried.again(self.begun));
        let (started, used) = (Instant::now(), Instant::now());
        let (reads, queries) = (BTreeSet::new(), Vec::new());
        let transaction = Transaction { database, mode, reads, queries, started, used };
        self.active.insert(id, transaction);
        id
    }

    /// Finds a transaction that is about to be used.
    pub(crate) fn using(
        &mut self,
        id: TransactionId,
        database: &DatabaseName,
    ) -> Result<&mut Transaction, Status> {
        let transaction = self.active.get_mut(&id).ok_or_else(expired)?;
        if transaction.database != *database {
            return Err(Status::invalid_argument("the transaction is one of another database"));
        }
        transaction.used = Instant::now();
        Ok(transaction)
    }

    pub(crate) fn find(&mut self, id: TransactionId) -> Option<&mut Transaction> {
        self.active.get_mut(&id)
    }

    pub(crate) fn end(&mut self, id: TransactionId) -> Option<Transaction> {
        self.active.remove(&id)
    }

    pub(crate) fn ids(&self) -> Vec<TransactionId> {
        self.active.keys().copied().collect()
    }

    /// Returns the oldest time as of which a transaction still reads.
    pub(crate) fn oldest_snapshot(&self) -> Option<Time> {
        self.active.values().filter_map(|transaction| transaction.mode.snapshot()).min()
    }

    /// Returns the transactions that have expired. A transaction that waits for a lock is not idle.
    pub(crate) fn overdue(&self, limits: &Limits, locks: &Locks) -> Vec<TransactionId> {
        let now = Instant::now();
        let overdue = |(id, transaction): &(&TransactionId, &Transaction)| {
            let idle = !locks.is_waiting(Party::Transaction(**id));
            transaction.deadline(limits, idle) <= now
        };
        self.active.iter().filter(overdue).map(|(id, _)| *id).collect()
    }

    /// Returns when the next of them may expire.
    pub(crate) fn next_deadline(&self, limits: &Limits) -> Option<Instant> {
        self.active.values().map(|transaction| transaction.deadline(limits, true)).min()
    }
}

impl Transaction {
    fn deadline(&self, limits: &Limits, idle: bool) -> Instant {
        let total = self.started + limits.total;
        if idle { total.min(self.used + limits.idle) } else { total }
    }
}

/// What a client requests when it begins a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestedMode {
    ReadOnly { at: Option<Time> },
    ReadWrite { concurrency: Concurrency, retried: Option<TransactionId> },
}

impl RequestedMode {
    /// Parses the options. `default` is the concurrency of the database.
    pub(crate) fn parse(
        options: Option<TransactionOptions>,
        default: Concurrency,
    ) -> Result<Self, Status> {
        match options.and_then(|options| options.mode) {
            Some(ModeMessage::ReadOnly(mode)) => {
                use gcloud_sdk::google::firestore::v1::transaction_options::read_only as message;
                let at = mode.consistency_selector.map(|selector| match selector {
                    message::ConsistencySelector::ReadTime(time) => Time::try_from(&time),
                });
                Ok(Self::ReadOnly { at: at.transpose()? })
            }
            Some(ModeMessage::ReadWrite(mode)) => Self::read_write(&mode, default),
            None => Ok(Self::ReadWrite { concurrency: default, retried: None }),
        }
    }

    fn read_write(mode: &ReadWrite, default: Concurrency) -> Result<Self, Status> {
        let concurrency = match ConcurrencyMode::try_from(mode.concurrency_mode) {
            Ok(ConcurrencyMode::Unspecified) => default,
            Ok(ConcurrencyMode::Optimistic) => Concurrency::Optimistic,
            Ok(ConcurrencyMode::Pessimistic) => Concurrency::Pessimistic,
            Err(_) => return Err(Status::invalid_argument("there is no such concurrency mode")),
        };
        let retried = match &mode.retry_transaction[..] {
            [] => None,
            id => Some(TransactionId::parse(id)?),
        };
        Ok(Self::ReadWrite { concurrency, retried })
    }
}

// Clients begin again when they receive this text.
pub(crate) fn expired() -> Status {
    Status::invalid_argument("The referenced transaction has expired or is no longer valid.")
}

/// Returns the error for a request that was ended while it waited.
pub(crate) fn end_error(reason: EndReason) -> Status {
    match reason {
        EndReason::Deadlock => contention(),
        EndReason::Expired => expired(),
    }
}

pub(crate) fn contention() -> Status {
    Status::aborted("Too much contention on these documents. Please try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> DatabaseName {
        DatabaseName::parse("projects/p/databases/(default)").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_that_is_not_used_expires() {
        let (mut transactions, locks) = (Transactions::default(), Locks::default());
        let limits = Limits::default();
        let idle = transactions.begin(database(), Mode::Pessimistic, None);
        let used = transactions.begin(database(), Mode::Pessimistic, None);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(transactions.using(used, &database()).is_ok());
        assert_eq!(transactions.overdue(&limits, &locks), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(transactions.overdue(&limits, &locks), [idle]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_in_constant_use_expires_at_the_total_limit() {
        let (mut transactions, locks) = (Transactions::default(), Locks::default());
        let id = transactions.begin(database(), Mode::Pessimistic, None);
        for _ in 0..9 {
            assert_eq!(transactions.overdue(&Limits::default(), &locks), []);
            assert!(transactions.using(id, &database()).is_ok());
            tokio::time::advance(Duration::from_secs(30)).await;
        }
        assert_eq!(transactions.overdue(&Limits::default(), &locks), [id]);
    }

    #[test]
    fn a_transaction_belongs_to_one_database() {
        let mut transactions = Transactions::default();
        let id = transactions.begin(database(), Mode::Pessimistic, None);
        let other = DatabaseName::parse("projects/p/databases/other").unwrap();
        assert!(transactions.using(id, &other).is_err());
        assert!(transactions.using(id, &database()).is_ok());
    }

    #[test]
    fn a_transaction_has_the_concurrency_of_its_database_by_default() {
        let requested = RequestedMode::parse(None, Concurrency::Optimistic).unwrap();
        let as_the_database =
            RequestedMode::ReadWrite { concurrency: Concurrency::Optimistic, retried: None };
        assert_eq!(requested, as_the_database);
        let mode = ReadWrite {
            concurrency_mode: ConcurrencyMode::Pessimistic as i32,
            ..ReadWrite::default()
        };
        let options = TransactionOptions { mode: Some(ModeMessage::ReadWrite(mode)) };
        let requested = RequestedMode::parse(Some(options), Concurrency::Optimistic).unwrap();
        let as_it_says =
            RequestedMode::ReadWrite { concurrency: Concurrency::Pessimistic, retried: None };
        assert_eq!(requested, as_it_says);
    }
}
