//! Looking up.

use syncguard_core::{LockId, LockQuery, LockRecord, Timestamp};

use crate::{
    client::{Call, Document, Lane, Read, Search, field_is},
    error::Failure,
    layout::DocumentName,
    nested::Nested,
    record::Stored,
    store::Store,
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
    let call = store.client.call(Lane::Common);
    match query {
        LockQuery::ByKey(key) => {
            let Read { at, found: [document] } =
                store.client.read(call, [&store.layout.lock(key)?]).await?;
            document.map_or(Ok(None), |document| live(at, &document))
        }
        LockQuery::ById(id) => {
            let found =
                search(store, call, *id).await?.filter(|found| found.stored.is_live(found.at));
            Ok(found.map(|found| found.stored.into_record(found.at)))
        }
    }
}

/// Finds the lock of an id: where it is thought to be, or else by a query, because the id alone counts.
pub(crate) async fn find(
    store: &Store,
    call: Call,
    id: LockId,
    hint: Option<&DocumentName>,
) -> Result<Option<Found>, Failure> {
    if let Some(name) = hint {
        let Read { at, found: [document] } = store.client.read(call, [name]).await?;
        let stored = document.and_then(|document| Stored::parse(&document).ok());
        if let Some(stored) = stored.filter(|stored| stored.is_of(id)) {
            return Ok(Some(Found { document: name.clone(), stored, at }));
        }
    }
    search(store, call, id).await
}

/// Finds the lock of an id directly in the collection, or else below another document.
async fn search(store: &Store, call: Call, id: LockId) -> Result<Option<Found>, Failure> {
    let search = Search { condition: Some(field_is("lockId", id.as_str())), order: None, limit: 1 };
    let Read { at, found } = store.client.search(call, search).await?;
    if let Some(it) = found.into_iter().next() {
        return Ok(Some(Found { stored: Stored::parse(&it)?, document: it.name, at }));
    }
    let nested = store.scans.here()?.read(&store.client, &store.layout, call).await?;
    // Others may keep documents of their own there: what is no lock is not the id's either.
    let found = nested.iter().find_map(|Nested { document, at }| {
        let stored = Stored::parse(document).ok().filter(|stored| stored.is_of(id))?;
        Some(Found { document: document.name.clone(), stored, at: *at })
    });
    Ok(found)
}

/// Makes a record of a document, if it is a live lock's.
pub(crate) fn live(now: Timestamp, document: &Document) -> Result<Option<LockRecord>, Failure> {
    let stored = Stored::parse(document)?;
    Ok(stored.is_live(now).then(|| stored.into_record(now)))
}
