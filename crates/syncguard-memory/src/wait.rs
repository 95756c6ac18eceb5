use std::{collections::HashMap, sync::Arc};

use syncguard_core::LockKey;
use tokio::sync::Notify;

use crate::MemoryBackend;

/// Those who want to know when a key is released.
#[derive(Debug, Default)]
pub(crate) struct Waiters(HashMap<LockKey, Arc<Notify>>);

impl Waiters {
    pub(crate) fn notify(&self, key: &LockKey) {
        if let Some(notify) = self.0.get(key) {
            notify.notify_waiters();
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl MemoryBackend {
    pub(crate) async fn wait_for_release(&self, key: &LockKey) {
        let subscription = Subscription::new(self, key);
        // Enabled within the first poll: a release from here on is not missed.
        subscription.notify.notified().await;
    }
}

/// Keeps the key's entry among the waiters for as long as anybody waits.
struct Subscription<'a> {
    backend: &'a MemoryBackend,
    key: &'a LockKey,
    notify: Arc<Notify>,
}

impl<'a> Subscription<'a> {
    fn new(backend: &'a MemoryBackend, key: &'a LockKey) -> Self {
        let notify = backend.lock().waiters.0.entry(key.clone()).or_default().clone();
        Self { backend, key, notify }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        let mut slots = self.backend.lock();
        // The map's reference and this one: nobody else waits for the key.
        if Arc::strong_count(&self.notify) == 2 {
            slots.waiters.0.remove(self.key);
        }
    }
}
