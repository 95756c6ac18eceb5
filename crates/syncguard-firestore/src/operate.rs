//! What operators do.

use syncguard_core::{ListRequest, LockKey, LockPage, LockRecord, PageToken};

use crate::{
    backend::Store,
    client::{Document, Expect, Lane, Read, Search, Write, field_above},
    error::Failure,
    lookup::live,
    nested::{self, Nested},
    record::Stored,
    retry::rounds,
};

/// Returns one page of the live locks, in the order of their keys. The key is a field, so this finds the
/// hashed ones as well.
///
/// Those below other documents are found apart, and take their places among the rest. Behind the last
/// document of a full page there may be more that were not read, so nothing beyond it is on the page.
pub(crate) async fn list(store: &Store, request: &ListRequest) -> Result<LockPage, Failure> {
    let search = Search {
        condition: (!request.prefix.is_empty()).then(|| field_above("key", &request.prefix)),
        order: Some(("key", request.after.as_ref().map(PageToken::as_str))),
        limit: request.limit,
    };
    let call = store.client.call(Lane::Common);
    let Read { at, found } = store.client.search(call, search).await?;
    let nested = nested::read(store, call).await?;
    let after = request.after.as_ref().map(PageToken::as_str);
    let within = |key: &str| key.starts_with(&request.prefix);
    let is_behind = |Nested { document, .. }: &&Nested| {
        let key = document.text("key");
        key.is_some_and(|key| within(key) && after.is_none_or(|after| key > after))
    };
    let mut page: Vec<_> = found.iter().map(|document| (at, document)).collect();
    page.extend(nested.iter().filter(is_behind).map(|nested| (nested.at, &nested.document)));
    page.sort_by_key(|(_, document)| document.text("key"));
    let full = page.len() >= request.limit;
    page.truncate(request.limit);
    let last = page.last().and_then(|(_, document)| document.text("key"));
    // Keys with the same beginning sort next to each other, so the first other one is the end.
    let next = last.filter(|key| full && within(key)).map(|key| PageToken::new(key.to_owned()));
    let record = |(at, document): (_, &Document)| live(at, document).ok().flatten();
    let locks = page.into_iter().filter_map(record);
    Ok(LockPage { locks: locks.filter(|lock| within(lock.key.as_str())).collect(), next })
}

/// Ends whatever live grant holds the key.
pub(crate) async fn force_release(
    store: &Store,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let name = store.layout.lock(key)?;
    let call = store.client.call(Lane::Release);
    let mut rounds = rounds(call.deadline);
    loop {
        let Read { at, found: [document] } = store.client.read(call, [&name]).await?;
        let stored = document.as_ref().map(Stored::parse).transpose()?;
        let Some(stored) = stored.filter(|stored| stored.is_live(at)) else {
            return Ok(None);
        };
        let delete = Write::delete(&name, Expect::Version(stored.version));
        let record = stored.into_record(at)?;
        if store.client.commit(call, vec![delete]).await?.is_some() {
            return Ok(Some(record));
        }
        rounds.next().await.ok_or(Failure::Contention)?;
    }
}
