//! Waits for a release, by any process.

use syncguard_core::{LockKey, backend::WakeUp};

use crate::{names::StoredKey, store::Store};

/// Resolves when the key may have become free.
///
/// The first poll subscribes. The key is watched from the moment when the listener has the advisory
/// lock of its bucket and knows its hash. That moment counts as a notification.
///
/// **No release after that moment is missed.** The release finds the lock taken, and notifies with
/// the hash.
///
/// **No release before that moment is missed.** A release that found the lock free holds it until
/// it has committed. The listener gets the lock after that commit, and the waiter's next attempt
/// finds the key free. A release that found the lock taken by the listener, for another key of the
/// bucket, may have notified before the hash was known here. It has committed by then, and the next
/// attempt finds the key free as well.
///
/// A lost connection loses the locks. They are taken again, which counts as a notification too.
/// Peers that do not notify, such as TypeScript clients, are found by the caller's retry schedule.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    match StoredKey::of(key) {
        Ok(stored) if store.waiters.wake_up() != WakeUp::None => {
            store.waiters.released(&stored.key).await;
            store.holder_cache.forget(&stored.key);
        }
        // A key without a stored name cannot be locked; an attempt reports that.
        _ => std::future::pending().await,
    }
}

/// Resolves when a waiter should request the key: as [`released`] does, but of those in line, a
/// release notifies only the first (see [`Line`](crate::line::Line)).
pub(crate) async fn turn(store: &Store, key: &LockKey) {
    match StoredKey::of(key) {
        Ok(stored) if store.waiters.wake_up() != WakeUp::None => {
            store.waiters.turn(&stored.key).await;
            store.holder_cache.forget(&stored.key);
        }
        _ => std::future::pending().await,
    }
}

/// Returns whether the waiters of the key are notified of a release.
pub(crate) fn is_subscribed(store: &Store, key: &LockKey) -> bool {
    StoredKey::of(key).is_ok_and(|stored| store.waiters.is_subscribed(&stored.key))
}
