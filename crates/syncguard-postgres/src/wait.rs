//! Waits for a release, by any process.

use syncguard_core::{LockKey, WakeUp};

use crate::{names::StoredKey, store::Store};

/// Resolves when the key may have become free.
///
/// The first poll subscribes. The key is watched from the moment when the listener has the advisory lock
/// of its bucket and knows its hash, which counts as a notification. **No release after that is
/// missed:** it finds the lock taken and notifies, with the hash. **None before it is missed either:**
/// one that found the lock free holds it until it has committed, so the listener gets the lock after
/// that, and the waiter's next attempt finds the key free; one that found it taken by the listener, for
/// another key of the bucket, may have notified before the hash was known here, but then it has
/// committed, and the next attempt finds the key free as well. A lost connection loses the locks; they
/// are taken again, and that counts as a notification too. Peers that do not notify, such as
/// TypeScript's, are left to the caller's schedule.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    match StoredKey::of(key) {
        Ok(stored) if store.waiters.wake_up() == WakeUp::Notified => {
            store.waiters.news(&stored.key).await;
            store.sightings.forget(&stored.key);
        }
        // Without a name there can be no lock either; an attempt reports that.
        _ => std::future::pending().await,
    }
}
