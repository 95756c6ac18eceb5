//! The waiters for a release.

use std::{collections::HashMap, sync::Arc};

use syncguard_core::LockKey;
use tokio::sync::Notify;

/// The waiters for the release of each key.
///
/// **Invariant:** an entry exists exactly as long as its key has a waiter. Subscriptions are
/// counted while the slots are locked. So if the last two are dropped at the same instant, the
/// second one removes the entry. (A reference count would not suffice: each could still see the
/// other's reference.)
#[derive(Debug, Default)]
pub(crate) struct Waiters(HashMap<LockKey, Entry>);

#[derive(Debug, Default)]
struct Entry {
    subscriptions: usize,
    notify: Arc<Notify>,
}

/// The wake-up of the waiters of a key. It is sent after the slots are unlocked, because a waker
/// runs code of the executor.
#[derive(Default)]
#[must_use = "waiters that are not woken wait forever"]
pub(crate) struct PendingWakeUp(Option<Arc<Notify>>);

impl PendingWakeUp {
    pub(crate) fn wake(self) {
        if let Some(notify) = self.0 {
            notify.notify_waiters();
        }
    }
}

impl Waiters {
    /// Returns the wake-up of the waiters of a key.
    pub(crate) fn wake_up(&self, key: &LockKey) -> PendingWakeUp {
        PendingWakeUp(self.0.get(key).map(|entry| entry.notify.clone()))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a subscription to a key.
    pub(crate) fn subscribe(&mut self, key: &LockKey) -> Arc<Notify> {
        let entry = self.0.entry(key.clone()).or_default();
        entry.subscriptions += 1;
        entry.notify.clone()
    }

    /// Removes a subscription to a key, and the entry of the key with its last one.
    pub(crate) fn unsubscribe(&mut self, key: &LockKey) {
        let Some(entry) = self.0.get_mut(key) else { return };
        entry.subscriptions -= 1;
        if entry.subscriptions == 0 {
            self.0.remove(key);
        }
    }
}
