use std::{collections::BTreeSet, sync::Arc};

use gcloud_sdk::google::firestore::v1::Document;
use tonic::Status;

use super::{Database, State};
use crate::{
    name::{DatabaseName, DocumentName},
    query::Query,
    store::Stored,
    time::Time,
    transaction::{Access, Found, Mode, Party, TransactionId},
};

/// Which state of the documents a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The latest.
    Strong,
    At(Time),
    In(TransactionId),
}

/// The result of a read, and its time.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) of: T,
    pub(crate) at: Time,
}

impl Database {
    /// Reads documents by name, in that order.
    pub(crate) async fn read(
        &self,
        database: &DatabaseName,
        reading: Reading,
        names: &[DocumentName],
    ) -> Result<Read<Vec<Stored>>, Status> {
        let id = {
            let mut state = self.state();
            match self.view(&mut state, database, reading)? {
                View::Lock(id) => id,
                View::At(at) => {
                    if let Reading::In(id) = reading {
                        state.using(id, database)?.reads.extend(names.iter().cloned());
                    }
                    return Ok(state.read(names, at));
                }
            }
        };
        let locked: BTreeSet<DocumentName> = names.iter().cloned().collect();
        let party = Party::Transaction(id);
        let read = |state: &mut State| {
            state.still_using(id)?;
            let at = state.clock.read();
            Ok(state.read(names, at))
        };
        self.locked(party, Access::Shared, locked, read).await
    }

    /// Finds documents by a query.
    pub(crate) async fn query(
        &self,
        reading: Reading,
        query: &Query,
    ) -> Result<Read<Vec<Arc<Document>>>, Status> {
        let database = query.database();
        let id = {
            let mut state = self.state();
            match self.view(&mut state, &database, reading)? {
                View::Lock(id) => id,
                View::At(at) => {
                    let of = query.run(&state.documents, at);
                    if let Reading::In(id) = reading {
                        let seen = (query.clone(), found(&of));
                        state.using(id, &database)?.queries.push(seen);
                    }
                    return Ok(Read { of, at });
                }
            }
        };
        loop {
            if let Some(read) = self.query_locked(id, query).await? {
                return Ok(read);
            }
        }
    }

    /// Locks what a query finds now, and returns it if the query then still finds the same.
    ///
    /// What is found is locked, so it stays. Documents that the query would find in addition are
    /// checked by the commit: the service locks the range instead, and makes the other writer wait.
    async fn query_locked(
        &self,
        id: TransactionId,
        query: &Query,
    ) -> Result<Option<Read<Vec<Arc<Document>>>>, Status> {
        let names = |of: &[Arc<Document>]| -> BTreeSet<DocumentName> {
            found(of).into_iter().map(|(name, _)| name).collect()
        };
        let requested = names(&query.run(&self.state().documents, Time::END));
        let party = Party::Transaction(id);
        self.locked(party, Access::Shared, requested.clone(), |state| {
            let (of, at) = (query.run(&state.documents, Time::END), state.clock.read());
            let transaction = state.still_using(id)?;
            if !names(&of).is_subset(&requested) {
                return Ok(None);
            }
            transaction.queries.push((query.clone(), found(&of)));
            Ok(Some(Read { of, at }))
        })
        .await
    }

    fn view(
        &self,
        state: &mut State,
        database: &DatabaseName,
        reading: Reading,
    ) -> Result<View, Status> {
        match reading {
            Reading::Strong => Ok(View::At(state.clock.read())),
            Reading::At(time) => Ok(View::At(self.readable(state, time)?)),
            Reading::In(id) => match state.using(id, database)?.mode {
                Mode::ReadOnly(time) | Mode::Optimistic(time) => Ok(View::At(time)),
                Mode::Pessimistic => Ok(View::Lock(id)),
            },
        }
    }
}

impl State {
    fn read(&self, names: &[DocumentName], at: Time) -> Read<Vec<Stored>> {
        Read { of: names.iter().map(|name| self.documents.read(name, at)).collect(), at }
    }
}

/// How a read gets a state that does not change.
enum View {
    At(Time),
    Lock(TransactionId),
}

/// Identifies the result of a query by its versions.
pub(super) fn found(documents: &[Arc<Document>]) -> Found {
    let named = documents.iter().filter_map(|document| {
        Some((DocumentName::parse(&document.name).ok()?, document.update_time))
    });
    named.collect()
}
