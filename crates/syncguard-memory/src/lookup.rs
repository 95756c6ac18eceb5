//! Looking up locks.

use syncguard_core::backend::{LockQuery, LockRecord};

use crate::store::Store;

/// Reads a live lock.
pub(crate) fn lookup(store: &Store, query: &LockQuery) -> Option<LockRecord> {
    let mut slots = store.lock();
    let now = store.now();
    let key = match query {
        LockQuery::ByKey(key) => key.clone(),
        LockQuery::ById(lock_id) => slots.held_by(*lock_id, now).ok()?.0,
    };
    slots.by_key.get(&key)?.record(&key, now)
}
