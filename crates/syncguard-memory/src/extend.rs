//! Extending locks.

use syncguard_core::{LockId, Ttl, backend::ExtendOutcome};

use crate::store::Store;

/// Sets the expiry of a live grant to now plus `ttl`.
pub(crate) fn extend(store: &Store, lock_id: LockId, ttl: Ttl) -> ExtendOutcome {
    let mut slots = store.lock();
    let now = store.now();
    match slots.held_by(lock_id, now) {
        Ok((_, slot)) => {
            let expires_at = now.after(ttl);
            if let Some(held) = slot.held.as_mut().filter(|held| held.lock_id == lock_id) {
                held.expires_at = expires_at;
            } else if let Some(sharing) = &mut slot.shared {
                sharing.holders.extend(lock_id, ttl, now);
            }
            ExtendOutcome::Extended { expires_at }
        }
        Err(reason) => ExtendOutcome::NotHeld(reason),
    }
}
