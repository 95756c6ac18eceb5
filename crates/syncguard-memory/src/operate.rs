//! Operations for operators.

use syncguard_core::{
    LockKey,
    backend::{ListRequest, LockPage, LockRecord, PageToken},
};

use crate::store::Store;

/// Returns the live locks whose keys begin with a prefix, in the order of their keys.
///
/// The page token is the last key of the page.
pub(crate) fn list(store: &Store, request: &ListRequest) -> LockPage {
    let slots = store.lock();
    let now = store.now();
    let after = request.after.as_ref().map_or("", PageToken::as_str);
    let mut held = slots
        .by_key
        .iter()
        .filter(|(key, _)| key.as_str() > after && key.as_str().starts_with(&request.prefix))
        .filter_map(|(key, slot)| slot.record(key, now));
    let locks: Vec<_> = held.by_ref().take(request.limit).collect();
    let last = locks.last().map(|lock| PageToken::new(lock.key.as_str()));
    LockPage { next: held.next().and(last), locks }
}

/// Ends every live grant of a key and returns its record.
pub(crate) fn force_release(store: &Store, key: &LockKey) -> Option<LockRecord> {
    let mut slots = store.lock();
    let now = store.now();
    let record = slots.by_key.get(key)?.record(key, now);
    let wake_up = slots.end_grants(key);
    drop(slots);
    wake_up.wake();
    record
}
