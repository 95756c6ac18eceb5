//! The lookup operations.

use syncguard_core::{
    LockId,
    backend::{LockQuery, LockRecord, Mode},
};

use crate::{
    client::Reply, error::Failure, holders::live, index::find, names::LockName, script::LOOKUP,
    store::Store,
};

/// Reads a live lock.
pub(crate) async fn lookup(
    store: &Store,
    query: &LockQuery,
) -> Result<Option<LockRecord>, Failure> {
    match query {
        LockQuery::ByKey(key) => read(store, &store.layout.lock(key)?).await,
        LockQuery::ById(id) => {
            let Some(lock) = find(store, *id).await? else {
                return Ok(None);
            };
            let record = read(store, &lock).await?;
            Ok(record.filter(|record| is_holder(record, *id)))
        }
    }
}

/// Returns whether the id holds the lock. The id of a record of shared holders holds nothing.
fn is_holder(record: &LockRecord, id: LockId) -> bool {
    match record.mode {
        Mode::Exclusive => record.lock_id == id,
        Mode::Shared { .. } => record.holders.iter().any(|holder| holder.lock_id == id),
    }
}

async fn read(store: &Store, lock: &LockName) -> Result<Option<LockRecord>, Failure> {
    match store.client.run(&LOOKUP, &[lock.as_str(), &lock.shared()], &[]).await?.list() {
        [now, records] => live(now, records.list().first().unwrap_or(&Reply::Nil)),
        _ => Err(Failure::Garbled("a lookup")),
    }
}
