//! The lookup operations.

use syncguard_core::backend::{LockQuery, LockRecord};

use crate::{
    client::Reply, error::Failure, index::find, names::LockName, record::live, script::LOOKUP,
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
            Ok(record.filter(|record| record.lock_id == *id))
        }
    }
}

async fn read(store: &Store, lock: &LockName) -> Result<Option<LockRecord>, Failure> {
    match store.client.run(&LOOKUP, &[lock.as_str()], &[]).await?.list() {
        [now, records] => live(now, records.list().first().unwrap_or(&Reply::Nil)),
        _ => Err(Failure::Garbled("a lookup")),
    }
}
