//! Waits for a release by any process.

use syncguard_core::{LockKey, backend::WakeUp};

use crate::{names::LockName, store::Store};

/// Resolves when the key may have become free.
///
/// The first poll subscribes. A release may be missed until the server has confirmed the
/// subscription, so the confirmation counts as a notification; so do a reconnect and the loss of
/// messages. If no holder publishes, as with TypeScript peers, this never resolves, and the
/// caller's schedule takes over.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    match notified_of(store, key) {
        Some(lock) => store.waiters.released(&lock).await,
        None => std::future::pending().await,
    }
}

/// Resolves when a waiter should request the key: as [`released`] does, but of those in line, a
/// release notifies only the first (see [`Line`](crate::line::Line)).
pub(crate) async fn turn(store: &Store, key: &LockKey) {
    match notified_of(store, key) {
        Some(lock) => store.waiters.turn(&lock).await,
        None => std::future::pending().await,
    }
}

/// Returns whether the server has confirmed the subscription of the waiters of the key.
pub(crate) fn is_subscribed(store: &Store, key: &LockKey) -> bool {
    store.layout.lock(key).is_ok_and(|lock| store.waiters.is_subscribed(&lock.channel()))
}

/// Returns the lock of a key if its releases are published.
fn notified_of(store: &Store, key: &LockKey) -> Option<LockName> {
    // A key without a name has no lock either; an attempt reports that.
    let lock = store.layout.lock(key).ok()?;
    (store.waiters.wake_up() != WakeUp::None).then_some(lock)
}
