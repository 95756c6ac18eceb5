//! The lookup operations.

use syncguard_core::backend::{LockQuery, LockRecord};

use crate::{
    client::{Lane, Read},
    error::Failure,
    find::{Found, search},
    record::live,
    store::Store,
};

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
            let found = search(store, call, *id).await?.filter(Found::is_live);
            Ok(found.and_then(|found| found.stored.into_live_record(found.at)))
        }
    }
}
