//! Finds the lock of an id.

use syncguard_core::{LockId, Timestamp};

use crate::{
    client::{Call, Document, Read, Search, field_is_or_contains},
    error::Failure,
    grants::Known,
    names::DocumentName,
    nested::Nested,
    record::{Stored, is_live},
    store::Store,
};

/// A lock that contains a grant of an id, live or not.
pub(crate) struct Found {
    document: DocumentName,
    pub(crate) stored: Stored,
    /// When the grant of the id expires.
    pub(crate) expires_at: Timestamp,
    pub(crate) at: Timestamp,
}

impl Found {
    /// Returns `None` if the lock contains no grant of the id.
    fn new(document: DocumentName, stored: Stored, id: LockId, at: Timestamp) -> Option<Self> {
        let expires_at = stored.expiry_of(id)?;
        Some(Self { document, stored, expires_at, at })
    }

    /// Returns whether the grant of the id is live.
    pub(crate) fn is_live(&self) -> bool {
        is_live(self.expires_at, self.at)
    }

    pub(crate) fn known(&self) -> Known {
        Known {
            document: self.document.clone(),
            version: self.stored.version,
            expires_at: self.expires_at,
            sharing: self.stored.sharing().cloned().map(Box::new),
        }
    }
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
        let found = document.and_then(|document| readable(&document, id, at));
        if found.is_some() {
            return Ok(found);
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
    let condition = Some(field_is_or_contains("lockId", "readerIds", id.as_str()));
    let search = Search { condition, order: None, limit: 1 };
    let Read { at, found } = store.client.search(call, search).await?;
    if let Some(it) = found.into_iter().next() {
        let stored = Stored::parse(&it)?;
        // The id of a head is in its document and holds nothing.
        return Ok(Found::new(it.name, stored, id, at));
    }
    let nested = store.scans.current()?.read(&store.client, &store.layout, call).await?;
    // Other programs may keep documents of their own there: a document that is not a lock is not
    // the id's.
    Ok(nested.iter().find_map(|Nested { document, at }| readable(document, id, *at)))
}

/// Returns the lock of an id, if the document can be read as one.
fn readable(document: &Document, id: LockId, at: Timestamp) -> Option<Found> {
    let stored = Stored::parse(document).ok()?;
    Found::new(document.name.clone(), stored, id, at)
}
