use gcloud_sdk::google::firestore::v1::WriteResult;
use tonic::Status;

use super::{Database, State, reading::found};
use crate::{
    name::DatabaseName,
    store::{Batch, Mutation},
    time::Time,
    transaction::{
        Access, EndReason, Mode, Party, Transaction, TransactionId, contention, expired,
    },
};

/// The results of a commit, and its time.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) results: Vec<WriteResult>,
    pub(crate) at: Time,
}

impl Database {
    /// Applies writes, all or none of them, and ends their transaction if they have one.
    ///
    /// Without a transaction it waits for transactions that have read what it writes, as the
    /// service does.
    pub(crate) async fn commit(
        &self,
        database: &DatabaseName,
        transaction: Option<TransactionId>,
        mutations: &[Mutation],
    ) -> Result<Committed, Status> {
        let party = self.commit_party(database, transaction, mutations)?;
        let names = mutations.iter().map(|mutation| mutation.name.clone()).collect();
        self.locked(party, Access::Exclusive, names, |state| {
            let transaction = match transaction {
                // Whatever the outcome, the transaction has ended.
                Some(id) => Some(state.end(id, EndReason::Expired).ok_or_else(expired)?),
                None => None,
            };
            state.apply(transaction.as_ref(), mutations, self.settings.retention)
        })
        .await
    }

    fn commit_party(
        &self,
        database: &DatabaseName,
        transaction: Option<TransactionId>,
        mutations: &[Mutation],
    ) -> Result<Party, Status> {
        let mut state = self.state();
        let Some(id) = transaction else {
            state.commits += 1;
            return Ok(Party::Commit(state.commits));
        };
        let mode = state.using(id, database)?.mode;
        if matches!(mode, Mode::ReadOnly(_)) && !mutations.is_empty() {
            return Err(Status::invalid_argument("a read-only transaction cannot write"));
        }
        Ok(Party::Transaction(id))
    }
}

impl State {
    fn apply(
        &mut self,
        transaction: Option<&Transaction>,
        mutations: &[Mutation],
        retention: std::time::Duration,
    ) -> Result<Committed, Status> {
        if transaction.is_some_and(|transaction| self.is_stale(transaction)) {
            return Err(contention());
        }
        let at = self.clock.commit();
        let batch = Batch::prepare(&self.documents, mutations, at)?;
        let horizon = at.before(retention);
        let horizon = self.transactions.oldest_snapshot().map_or(horizon, |s| s.min(horizon));
        self.documents.install(&batch, at, horizon);
        self.watchers.notify(&batch, at);
        Ok(Committed { results: batch.into_results(), at })
    }

    /// Returns whether anything that a transaction has read has changed.
    fn is_stale(&self, transaction: &Transaction) -> bool {
        let Transaction { mode, reads, queries, .. } = transaction;
        let changed = match mode {
            // A read as of a time never changes.
            Mode::ReadOnly(_) => return false,
            Mode::Optimistic(time) => {
                reads.iter().any(|name| self.documents.is_changed_since(name, *time))
            }
            Mode::Pessimistic => false,
        };
        changed
            || queries
                .iter()
                .any(|(query, seen)| found(&query.run(&self.documents, Time::END)) != *seen)
    }
}
