//! Finds the lock of an id.

use syncguard_core::{LockId, Timestamp};

use crate::{
    client::{Call, Read, Search, field_is},
    error::Failure,
    names::DocumentName,
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

/// Finds the lock of an id: in the expected place, or else by a query, because the id alone counts.
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
pub(crate) async fn search(
    store: &Store,
    call: Call,
    id: LockId,
) -> Result<Option<Found>, Failure> {
    let search = Search { condition: Some(field_is("lockId", id.as_str())), order: None, limit: 1 };
    let Read { at, found } = store.client.search(call, search).await?;
    if let Some(it) = found.into_iter().next() {
        return Ok(Some(Found { stored: Stored::parse(&it)?, document: it.name, at }));
    }
    let nested = store.scans.current()?.read(&store.client, &store.layout, call).await?;
    // Other programs may keep documents of their own there: a document that is not a lock is not
    // the id's.
    let found = nested.iter().find_map(|Nested { document, at }| {
        let stored = Stored::parse(document).ok().filter(|stored| stored.is_of(id))?;
        Some(Found { document: document.name.clone(), stored, at: *at })
    });
    Ok(found)
}
