//! Releasing locks and abandoning ids.

use syncguard_core::{LockId, ReleaseOutcome};

use crate::store::Store;

/// Ends a live grant.
pub(crate) fn release(store: &Store, lock_id: LockId) -> ReleaseOutcome {
    let mut slots = store.lock();
    match slots.held_by(lock_id, store.now()).map(|(key, _)| key) {
        Ok(key) => {
            let wake_up = slots.end_grant(&key);
            drop(slots);
            wake_up.wake();
            ReleaseOutcome::Released
        }
        Err(reason) => ReleaseOutcome::NotHeld(reason),
    }
}

/// Stores a tombstone for the id and ends its grant in one step, so that no acquire can come in
/// between.
pub(crate) fn abandon(store: &Store, lock_id: LockId) {
    let mut slots = store.lock();
    let now = store.now();
    slots.abandon(lock_id, now);
    if let Ok(key) = slots.held_by(lock_id, now).map(|(key, _)| key) {
        let wake_up = slots.end_grant(&key);
        drop(slots);
        wake_up.wake();
    }
}
