//! Waiting for a release.

use std::sync::Arc;

use syncguard_core::LockKey;
use tokio::sync::Notify;

use crate::store::Store;

/// Resolves when the key is released.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    let subscription = Subscription::new(store, key);
    // The first poll registers the waiter: a release from then on is not missed.
    subscription.notify.notified().await;
}

/// Keeps the entry of the key among the waiters until it is dropped.
struct Subscription<'a> {
    store: &'a Store,
    key: &'a LockKey,
    notify: Arc<Notify>,
}

impl<'a> Subscription<'a> {
    fn new(store: &'a Store, key: &'a LockKey) -> Self {
        let notify = store.lock().waiters.subscribe(key);
        Self { store, key, notify }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        self.store.lock().waiters.unsubscribe(self.key);
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

    use syncguard_core::{
        BootClock, LockId, LockKey, Ttl,
        backend::{AcquireRequest, Counters},
    };

    use super::{Subscription, released};
    use crate::{
        acquire::acquire,
        release::{abandon, release},
        store::Store,
    };

    const ITERATIONS: u32 = 50_000;

    fn store() -> Store {
        Store::new(Arc::new(BootClock))
    }

    #[test]
    fn an_entry_is_removed_if_its_last_two_subscriptions_are_dropped_at_the_same_instant() {
        let (store, key) = (store(), LockKey::new("k").unwrap());
        let barrier = Barrier::new(2);
        let iteration = |left_behind: &mut usize| {
            let subscription = Subscription::new(&store, &key);
            barrier.wait();
            drop(subscription);
            barrier.wait();
            *left_behind += usize::from(!store.lock().waiters.is_empty());
            barrier.wait();
        };
        let left_behind: usize = thread::scope(|scope| {
            let both = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut left_behind = 0;
                    (0..ITERATIONS).for_each(|_| iteration(&mut left_behind));
                    left_behind
                })
            });
            both.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(left_behind, 0);
    }

    /// A waker that uses the store, as the waker of an executor may if it runs the task
    /// immediately.
    struct Reentrant(Arc<Store>, mpsc::Sender<bool>);

    impl Wake for Reentrant {
        fn wake(self: Arc<Self>) {
            let _ = self.1.send(self.0.lock().waiters.is_empty());
        }
    }

    #[test]
    fn wakers_are_called_after_the_slots_are_unlocked() {
        let (sender, woken) = mpsc::channel();
        thread::spawn(move || {
            let (store, key) = (Arc::new(store()), LockKey::new("k").unwrap());
            let waker = Waker::from(Arc::new(Reentrant(store.clone(), sender)));
            let mut context = Context::from_waker(&waker);
            let id = LockId::mint().unwrap();
            let request = AcquireRequest::new(key.clone(), id, Ttl::default());
            let _ = acquire(&store, &request, Counters::FromOne).unwrap();
            let mut waiting = pin!(released(&store, &key));
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            let _ = release(&store, id);
            abandon(&store, id, &key);
        });
        assert!(
            !woken.recv_timeout(Duration::from_secs(60)).unwrap(),
            "the waiter is still subscribed"
        );
    }
}
