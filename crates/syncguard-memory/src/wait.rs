use std::{collections::HashMap, sync::Arc};

use syncguard_core::LockKey;
use tokio::sync::Notify;

use crate::MemoryBackend;

/// Those who wait for the release of a key.
///
/// **Invariant:** an entry lives exactly as long as someone waits for its key. Subscriptions are
/// counted under the lock of the map, so of two that leave at the same instant one sees the other
/// gone. (A count of references would not do: each could still see the other's.)
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
    /// Returns those who wait for a key.
    pub(crate) fn of(&self, key: &LockKey) -> Woken {
        Woken(self.0.get(key).map(|entry| entry.notify.clone()))
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn join(&mut self, key: &LockKey) -> Arc<Notify> {
        let entry = self.0.entry(key.clone()).or_default();
        entry.subscriptions += 1;
        entry.notify.clone()
    }

    fn leave(&mut self, key: &LockKey) {
        let Some(entry) = self.0.get_mut(key) else { return };
        entry.subscriptions -= 1;
        if entry.subscriptions == 0 {
            self.0.remove(key);
        }
    }
}

impl MemoryBackend {
    pub(crate) async fn wait_for_release(&self, key: &LockKey) {
        let subscription = Subscription::new(self, key);
        // Enabled within the first poll: a release from here on is not missed.
        subscription.notify.notified().await;
    }
}

/// Keeps the key's entry among the waiters for as long as anyone waits.
struct Subscription<'a> {
    backend: &'a MemoryBackend,
    key: &'a LockKey,
    notify: Arc<Notify>,
}

impl<'a> Subscription<'a> {
    fn new(backend: &'a MemoryBackend, key: &'a LockKey) -> Self {
        let notify = backend.lock().waiters.join(key);
        Self { backend, key, notify }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        self.backend.lock().waiters.leave(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::{Arc, Barrier, mpsc},
        task::{Context, Wake, Waker},
        thread,
        time::Duration,
    };

    use syncguard_core::{AcquireRequest, LockBackend, LockId, LockKey, LockRef, Ttl};

    use super::Subscription;
    use crate::MemoryBackend;

    const ROUNDS: u32 = 50_000;

    #[test]
    fn an_entry_ends_with_the_last_of_two_that_leave_at_the_same_instant() {
        let (backend, key) = (MemoryBackend::new(), LockKey::new("k").unwrap());
        let together = Barrier::new(2);
        let round = |left_behind: &mut usize| {
            let subscription = Subscription::new(&backend, &key);
            together.wait();
            drop(subscription);
            together.wait();
            *left_behind += usize::from(!backend.lock().waiters.is_empty());
            together.wait();
        };
        let left_behind: usize = thread::scope(|scope| {
            let both = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut left_behind = 0;
                    (0..ROUNDS).for_each(|_| round(&mut left_behind));
                    left_behind
                })
            });
            both.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(left_behind, 0);
    }

    /// Comes back to the backend when it is called, as the waker of an executor may that runs a task
    /// at once.
    struct Reentrant(MemoryBackend, mpsc::Sender<bool>);

    impl Wake for Reentrant {
        fn wake(self: Arc<Self>) {
            let _ = self.1.send(self.0.lock().waiters.is_empty());
        }
    }

    #[test]
    fn wakers_are_called_while_nothing_is_locked() {
        let (sender, woken) = mpsc::channel();
        thread::spawn(move || {
            let (backend, key) = (MemoryBackend::new(), LockKey::new("k").unwrap());
            let waker = Waker::from(Arc::new(Reentrant(backend.clone(), sender)));
            let mut context = Context::from_waker(&waker);
            let mut release = |lock: &LockRef| {
                let mut waiting = pin!(backend.released(&key));
                assert!(waiting.as_mut().poll(&mut context).is_pending());
                let _ = backend.release_now(lock.lock_id);
                backend.abandon_now(lock.lock_id);
            };
            let request = AcquireRequest::new(key.clone(), LockId::mint().unwrap(), Ttl::default());
            let _ = backend.acquire_now(&request).unwrap();
            release(&LockRef::new(request.lock_id, key.clone()));
        });
        assert!(!woken.recv_timeout(Duration::from_secs(60)).unwrap(), "someone waits");
    }
}
