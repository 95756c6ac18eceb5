//! The operations for operators.

use std::collections::BTreeSet;

use syncguard_core::{
    Error, LockKey,
    backend::{ListRequest, LockPage, LockRecord, PageToken},
};

use crate::{
    client::Reply,
    error::Failure,
    holders::live,
    names::{LockName, Shape},
    script::{FORCE_RELEASE, LOOKUP},
    store::Store,
};

/// How many names the server scans at a time. Meanwhile it serves no other client, for a few
/// hundred microseconds.
const SCAN_COUNT: &str = "1000";

/// How many records are read at a time.
const READ_BATCH_SIZE: usize = 100;

/// Returns one page of the live locks, in the order of their names.
///
/// A Redis scan may return a name twice, and no cursor could detect that across several pages. So
/// each page scans all names and keeps those after the last name of the previous page. That is one
/// pass over the names of the database per page, which suits operators, not programs.
pub(crate) async fn list(store: &Store, request: &ListRequest) -> Result<LockPage, Failure> {
    let after = request.after.as_ref().map_or("", PageToken::as_str);
    let mut names = scan(store, &request.prefix).await?;
    names.retain(|name| name.as_str() > after);
    let page: Vec<_> = names.iter().take(request.limit).cloned().map(LockName::new).collect();
    let mut locks = Vec::new();
    for names in page.chunks(READ_BATCH_SIZE) {
        locks.extend(read_all(store, names).await?);
    }
    // A hashed name reveals nothing about its key.
    locks.retain(|lock| lock.key.as_str().starts_with(&request.prefix));
    let more = names.len() > page.len();
    let next = page.last().filter(|_| more).map(|name| PageToken::new(name.as_str()));
    Ok(LockPage { locks, next })
}

/// Returns the names of all locks whose keys begin with the prefix, and possibly of others.
async fn scan(store: &Store, prefix: &str) -> Result<BTreeSet<String>, Failure> {
    let pattern = store.layout.pattern(prefix);
    let mut names = BTreeSet::new();
    for node in store.client.nodes().await? {
        let mut cursor = "0".to_owned();
        loop {
            let scanning = [&cursor, "MATCH", &pattern, "COUNT", SCAN_COUNT];
            let reply = store.client.at(node.as_ref(), "SCAN", &scanning).await?;
            let [Reply::Text(next), found] = reply.list() else {
                return Err(Failure::Garbled("a scan"));
            };
            let found = found.list().iter().filter_map(Reply::text);
            names.extend(found.filter(|name| store.layout.is_lock(name)).map(str::to_owned));
            if next == "0" {
                break;
            }
            cursor.clone_from(next);
        }
    }
    Ok(names)
}

/// Reads several locks. Omits values under such a name that are not locks.
async fn read_all(store: &Store, names: &[LockName]) -> Result<Vec<LockRecord>, Failure> {
    let mut records = Vec::new();
    // In a cluster, each lock has a slot of its own.
    let together = match store.layout.shape() {
        Shape::Plain => names.len().max(1),
        Shape::Tagged => 1,
    };
    for names in names.chunks(together) {
        let shared: Vec<_> = names.iter().map(LockName::shared).collect();
        let keys = names.iter().map(LockName::as_str).chain(shared.iter().map(String::as_str));
        let reply = store.client.run(&LOOKUP, &keys.collect::<Vec<_>>(), &[]).await?;
        let [now, found] = reply.list() else {
            return Err(Failure::Garbled("a lookup"));
        };
        let found = found.list().iter().filter_map(|record| live(now, record).ok().flatten());
        records.extend(found);
    }
    Ok(records)
}

/// Ends all grants of a key and its announcement, and returns the record. A record that cannot be read is removed,
/// and reported as an error that explains this.
pub(crate) async fn force_release(
    store: &Store,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let lock: LockName = store.layout.lock(key)?;
    let keys = [lock.as_str(), &lock.shared()];
    let arguments = [store.waiters.publish()];
    match store.client.run(&FORCE_RELEASE, &keys, &arguments).await?.list() {
        [now, record] => live(now, record).map_err(|failure| match failure {
            Failure::Unreadable(what) => Error::cleared(what).into(),
            other => other,
        }),
        _ => Err(Failure::Garbled("a forced release")),
    }
}
