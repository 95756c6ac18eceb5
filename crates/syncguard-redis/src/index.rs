//! The index, which maps an id to its lock. It is a hint: every user of it verifies the owner.

use syncguard_core::{LockId, Ttl};

use crate::{
    error::Failure,
    names::{LockName, Shape},
    store::Store,
};

/// Reads the lock of an id from the index.
pub(crate) async fn find(store: &Store, id: LockId) -> Result<Option<LockName>, Failure> {
    let reply = store.client.command("GET", &[&store.layout.index(id)]).await?;
    // Empty: the id was abandoned.
    let name = reply.text().filter(|name| !name.is_empty());
    Ok(name.map(|name| LockName::new(name.to_owned())))
}

/// Records on a cluster where the id's lock is. The script cannot, because that key is in another
/// slot.
///
/// It is only a hint for callers that know only the id, so the grant is valid without it.
pub(crate) async fn remember(store: &Store, lock: &LockName, id: LockId, ttl: Ttl) {
    if store.layout.shape() == Shape::Plain {
        return;
    }
    let (index, lifetime) = (store.layout.index(id), store.options.lifetime(ttl));
    let words = [&index, lock.as_str(), "PX", &lifetime];
    if let Err(failure) = store.client.command("SET", &words).await {
        tracing::debug!(%failure, "the index of a lock id could not be written");
    }
}

/// Removes the index entry of an id on a cluster, where the script cannot. An entry that remains is
/// a hint to nothing, until it expires.
pub(crate) async fn forget(store: &Store, id: LockId) {
    if store.layout.shape() == Shape::Plain {
        return;
    }
    if let Err(failure) = store.client.command("DEL", &[&store.layout.index(id)]).await {
        tracing::debug!(%failure, "the index of a lock id could not be removed");
    }
}
