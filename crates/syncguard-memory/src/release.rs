//! Releasing locks and abandoning ids.

use syncguard_core::{LockId, ReleaseOutcome};

use crate::store::Store;

/// Ends a live grant.
pub(crate) fn release(store: &Store, lock_id: LockId) -> ReleaseOutcome {
    let mut slots = store.lock();
    match slots.held_by(lock_id, store.now()).map(|(key, _)| key) {
        Ok(key) => {
            let woken = slots.vacate(&key);
            drop(slots);
            woken.wake();
            ReleaseOutcome::Released
        }
        Err(why) => ReleaseOutcome::NotHeld(why),
    }
}

/// Leaves a tombstone for the id and ends its grant in one step, so that no acquire comes in
/// between.
pub(crate) fn abandon(store: &Store, lock_id: LockId) {
    let mut slots = store.lock();
    let now = store.now();
    slots.abandon(lock_id, now);
    if let Ok(key) = slots.held_by(lock_id, now).map(|(key, _)| key) {
        let woken = slots.vacate(&key);
        drop(slots);
        woken.wake();
    }
}
