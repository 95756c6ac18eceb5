//! Waits for a release, by any process.

use syncguard_core::{LockKey, WakeUp};

use crate::store::Store;

/// Resolves when the key may have become free.
///
/// The first poll subscribes. Until the server has confirmed that, a release may slip through, so
/// the confirmation is news by itself; so is a reconnect, and the loss of messages. Where nobody
/// publishes, such as TypeScript peers, this never resolves, and the caller's schedule takes over.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    match store.layout.lock(key) {
        Ok(lock) if store.waiters.wake_up() == WakeUp::Notified => {
            store.waiters.news(lock.channel()).await;
        }
        // Without a name there is no lock either; an attempt says so.
        _ => std::future::pending().await,
    }
}
