//! The operations for operators.

use syncguard_core::{
    Error, LockKey,
    backend::{ListRequest, LockPage, LockRecord, PageToken},
};

use crate::{
    client::{Expect, Lane, Read, Search, Write, field_above},
    error::Failure,
    nested::Nested,
    record::live,
    retry::attempts,
    store::Store,
};

/// Returns one page of the live locks, in the order of their keys. The key is a field, so this
/// finds the hashed ones as well. Documents that cannot be read are omitted, and their number is
/// logged.
///
/// Documents below other documents are found separately and merged in order. Documents that were
/// not read may follow the last one of a full page, so the page contains nothing beyond it.
pub(crate) async fn list(store: &Store, request: &ListRequest) -> Result<LockPage, Failure> {
    let search = Search {
        // This omits keys that are not text, after which no page could begin.
        condition: Some(field_above("key", &request.prefix)),
        order: Some(("key", request.after.as_ref().map(PageToken::as_str))),
        limit: request.limit,
    };
    let call = store.client.call(Lane::Common);
    let Read { at, found } = store.client.search(call, search).await?;
    let nested = store.scans.current()?.read(&store.client, &store.layout, call).await?;
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
    // Keys with the same prefix sort next to each other, so the first other one is the end.
    let next = last.filter(|key| full && within(key)).map(|key| PageToken::new(key.to_owned()));
    let (mut locks, mut unreadable) = (Vec::with_capacity(page.len()), 0_usize);
    for (at, document) in page {
        match live(at, document) {
            Ok(record) => locks.extend(record.filter(|lock| within(lock.key.as_str()))),
            Err(_) => unreadable += usize::from(document.text("key").is_some_and(within)),
        }
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, "records that cannot be read are left out of a list of locks");
    }
    Ok(LockPage { locks, next })
}

/// Ends every live grant of a key, and an announcement, and returns the record. A record that
/// cannot be read is cleared, and reported as an error that explains this.
pub(crate) async fn force_release(
    store: &Store,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let name = store.layout.lock(key)?;
    let call = store.client.call(Lane::Release);
    let mut attempts = attempts(call.deadline);
    loop {
        let Read { at, found: [document] } = store.client.read(call, [&name]).await?;
        let Some(document) = document else { return Ok(None) };
        let ended = match live(at, &document) {
            Ok(None) if !document.has("announcement") => return Ok(None),
            Err(Failure::Unreadable(what)) => Err(Error::cleared(what).into()),
            record => record,
        };
        let delete = Write::delete(&name, Expect::Version(document.version));
        if store.client.commit(call, vec![delete]).await?.is_some() {
            return ended;
        }
        attempts.next_among_readers().await.ok_or(Failure::Contention)?;
    }
}
