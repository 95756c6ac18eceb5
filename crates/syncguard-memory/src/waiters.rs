//! The waiters for a release.

use std::{collections::HashMap, sync::Arc};

use syncguard_core::LockKey;
use tokio::sync::Notify;

/// The waiters for the release of each key.
///
/// **Invariant:** an entry lives exactly as long as its key has a waiter. Subscriptions are counted
/// under the lock of the map, so of two that leave at the same instant one sees that the other has
/// gone. (A reference count would not suffice: each could still see the other's reference.)
#[derive(Debug, Default)]
pub(crate) struct Waiters(HashMap<LockKey, Entry>);

#[derive(Debug, Default)]
struct Entry {
    subscriptions: usize,
    notify: Arc<Notify>,
}

/// Waiters to be woken once the slots are unlocked: a waker runs code of the executor.
#[derive(Default)]
#[must_use = "who is not woken waits for ever"]
pub(crate) struct Woken(Option<Arc<Notify>>);

impl Woken {
    pub(crate) fn wake(self) {
        if let Some(notify) = self.0 {
            notify.notify_waiters();
        }
    }
}

impl Waiters {
    /// Returns the waiters of a key.
    pub(crate) fn of(&self, key: &LockKey) -> Woken {
        Woken(self.0.get(key).map(|entry| entry.notify.clone()))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a subscription to a key.
    pub(crate) fn join(&mut self, key: &LockKey) -> Arc<Notify> {
        let entry = self.0.entry(key.clone()).or_default();
        entry.subscriptions += 1;
        entry.notify.clone()
    }

    /// Removes a key with its last subscription.
    pub(crate) fn leave(&mut self, key: &LockKey) {
        let Some(entry) = self.0.get_mut(key) else { return };
        entry.subscriptions -= 1;
        if entry.subscriptions == 0 {
            self.0.remove(key);
        }
    }
}
