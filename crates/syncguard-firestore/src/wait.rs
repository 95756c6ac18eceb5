//! Waits for a release, by any process in any language: all of them delete the document of the
//! lock, except that readers leave one that others share, or in which a writer is announced.

use syncguard_core::LockKey;

use crate::store::Store;

/// Resolves when the key may have become free.
///
/// The first poll subscribes to the document. Until the server has reported its state, a release
/// may be missed, so that report counts as a notification; so does a new stream after a broken one.
/// If no stream can be opened, this never resolves, and the caller's schedule takes over.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    match (store.layout.lock(key), store.waiters.current()) {
        (Ok(name), Ok(waiters)) => waiters.notified(&store.client, name).await,
        // Without a name or a runtime, no lock exists either; an attempt reports that.
        _ => std::future::pending().await,
    }
}

/// Returns whether the stream listens to the document.
pub(crate) fn is_subscribed(store: &Store, key: &LockKey) -> bool {
    match (store.layout.lock(key), store.waiters.current()) {
        (Ok(name), Ok(waiters)) => waiters.is_subscribed(&name),
        _ => false,
    }
}
