//! Retiring fence counters.

use std::ops::Bound;

use syncguard_core::{
    LockKey,
    backend::{PageToken, RetirePage, RetireRequest},
};

use crate::store::Store;

/// Removes keys that no one holds and whose counters can be retired, in the order of the keys.
///
/// The page token is the last key of the page.
pub(crate) fn retire_counters(store: &Store, request: &RetireRequest) -> RetirePage {
    let mut slots = store.lock();
    let now = store.now();
    let after = request.after.as_ref().and_then(|token| LockKey::new(token.as_str()).ok());
    let after = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let rest = slots.by_key.range((after, Bound::Unbounded));
    let page: Vec<_> = rest.map(|(key, _)| key.clone()).take(request.limit).collect();
    let next = page.last().map(|key| PageToken::new(key.as_str()));
    let retired = page.iter().filter(|key| slots.retire(key, request, now)).count();
    RetirePage { retired: u64::try_from(retired).unwrap_or(u64::MAX), next }
}
