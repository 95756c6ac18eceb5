//! Releasing locks and abandoning ids.

use syncguard_core::{LockId, LockKey, ReleaseOutcome};

use crate::store::Store;

/// Ends a live grant.
pub(crate) fn release(store: &Store, lock_id: LockId) -> ReleaseOutcome {
    let mut slots = store.lock();
    let now = store.now();
    match slots.held_by(lock_id, now).map(|(key, _)| key) {
        Ok(key) => {
            let wake_up = slots.end_grant(&key, lock_id, now);
            drop(slots);
            wake_up.wake();
            ReleaseOutcome::Released
        }
        Err(reason) => ReleaseOutcome::NotHeld(reason),
    }
}

/// Stores a tombstone for the id and ends its grant and its announcement in one step, so that no
/// acquire can come in between.
pub(crate) fn abandon(store: &Store, lock_id: LockId, key: &LockKey) {
    let mut slots = store.lock();
    let now = store.now();
    slots.abandon(lock_id, now);
    let withdrawn = slots.withdraw(key, lock_id);
    let held = slots.held_by(lock_id, now).map(|(key, _)| key);
    let ended = held.map(|key| slots.end_grant(&key, lock_id, now)).unwrap_or_default();
    drop(slots);
    withdrawn.wake();
    ended.wake();
}
