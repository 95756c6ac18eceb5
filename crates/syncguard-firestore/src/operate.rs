//! What operators do.

use syncguard_core::{ListRequest, LockKey, LockPage, LockRecord, PageToken};
use tokio::time::sleep;

use crate::{
    backend::Store,
    client::{Expect, Read, Search, Write, field_above},
    error::Failure,
    lookup::live,
    record::Stored,
    retry::pauses,
};

/// Gives one page of the live locks, in the order of their keys. The key is a field, so this finds the
/// hashed ones as well.
pub(crate) async fn list(store: &Store, request: &ListRequest) -> Result<LockPage, Failure> {
    let search = Search {
        condition: (!request.prefix.is_empty()).then(|| field_above("key", &request.prefix)),
        order: Some(("key", request.after.as_ref().map(PageToken::as_str))),
        limit: request.limit,
    };
    let Read { at, found } = store.client.search(search).await?;
    let last = found.last().and_then(|document| document.text("key")).map(str::to_owned);
    let full = found.len() >= request.limit;
    let within = |key: &str| key.starts_with(&request.prefix);
    // Keys with the same beginning sort next to each other, so the first other one is the end.
    let next = last.filter(|key| full && within(key)).map(PageToken::new);
    let locks = found.iter().filter_map(|document| live(at, document).ok().flatten());
    Ok(LockPage { locks: locks.filter(|lock| within(lock.key.as_str())).collect(), next })
}

/// Ends whatever live grant holds the key.
pub(crate) async fn force_release(
    store: &Store,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let name = store.layout.lock(key)?;
    let mut pauses = pauses();
    loop {
        let Read { at, found: [document] } = store.client.read([&name]).await?;
        let stored = document.as_ref().map(Stored::parse).transpose()?;
        let Some(stored) = stored.filter(|stored| stored.is_live(at)) else {
            return Ok(None);
        };
        let delete = Write::delete(&name, Expect::Version(stored.version));
        let record = stored.into_record(at)?;
        if store.client.commit(vec![delete]).await?.is_some() {
            return Ok(Some(record));
        }
        sleep(pauses.next().ok_or(Failure::Contention)?).await;
    }
}
