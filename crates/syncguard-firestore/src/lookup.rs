//! Looking up.

use syncguard_core::{LockId, LockQuery, LockRecord, Timestamp};

use crate::{
    backend::Store,
    client::{Document, Read, Search, field_is},
    error::Failure,
    layout::DocumentName,
    record::Stored,
};

/// A lock that is on record under an id, live or not.
pub(crate) struct Found {
    pub(crate) document: DocumentName,
    pub(crate) stored: Stored,
    pub(crate) at: Timestamp,
}

/// Reads a live lock.
pub(crate) async fn lookup(
    store: &Store,
    query: &LockQuery,
) -> Result<Option<LockRecord>, Failure> {
    match query {
        LockQuery::ByKey(key) => {
            let Read { at, found: [document] } =
                store.client.read([&store.layout.lock(key)?]).await?;
            document.map_or(Ok(None), |document| live(at, &document))
        }
        LockQuery::ById(id) => {
            let found = search(store, *id).await?.filter(|found| found.stored.is_live(found.at));
            found.map(|found| found.stored.into_record(found.at)).transpose()
        }
    }
}

/// Finds the lock of an id: where it is thought to be, or else by a query, because the id alone counts.
pub(crate) async fn find(
    store: &Store,
    id: LockId,
    hint: Option<&DocumentName>,
) -> Result<Option<Found>, Failure> {
    if let Some(name) = hint {
        let Read { at, found: [document] } = store.client.read([name]).await?;
        let stored = document.and_then(|document| Stored::parse(&document).ok());
        if let Some(stored) = stored.filter(|stored| stored.is_of(id)) {
            return Ok(Some(Found { document: name.clone(), stored, at }));
        }
    }
    search(store, id).await
}

async fn search(store: &Store, id: LockId) -> Result<Option<Found>, Failure> {
    let search = Search { condition: Some(field_is("lockId", id.as_str())), order: None, limit: 1 };
    let Read { at, found } = store.client.search(search).await?;
    let found = found.into_iter().next();
    found.map(|it| Ok(Found { stored: Stored::parse(&it)?, document: it.name, at })).transpose()
}

/// Makes a record of a document, if it is a live lock's.
pub(crate) fn live(now: Timestamp, document: &Document) -> Result<Option<LockRecord>, Failure> {
    let stored = Stored::parse(document)?;
    if !stored.is_live(now) {
        return Ok(None);
    }
    stored.into_record(now).map(Some)
}
