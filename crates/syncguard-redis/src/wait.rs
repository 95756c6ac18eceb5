//! Waits for a release by any process.

use syncguard_core::{LockKey, backend::WakeUp};

use crate::store::Store;

/// Resolves when the key may have become free.
///
/// The first poll subscribes. A release may be missed until the server has confirmed the
/// subscription, so the confirmation counts as a notification; so do a reconnect and the loss of
/// messages. If no holder publishes, as with TypeScript peers, this never resolves, and the
/// caller's schedule takes over.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    match store.layout.lock(key) {
        Ok(lock) if store.waiters.wake_up() == WakeUp::Notified => {
            store.waiters.released(lock.channel()).await;
        }
        // A key without a name has no lock either; an attempt reports that.
        _ => std::future::pending().await,
    }
}

/// Returns whether the server has confirmed the subscription of the waiters of the key.
pub(crate) fn is_subscribed(store: &Store, key: &LockKey) -> bool {
    store.layout.lock(key).is_ok_and(|lock| store.waiters.is_subscribed(&lock.channel()))
}
