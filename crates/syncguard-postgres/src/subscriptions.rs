//! The keys that tasks wait for.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use syncguard_core::backend::{self, SubscribedKey, Subscription};
use tokio::sync::Notify;

/// The keys that a task waits for, or waited for a moment ago.
#[derive(Default)]
pub(crate) struct Subscriptions {
    table: Mutex<Table>,
    /// Notifies the listener that a key is to be watched.
    pub(crate) added: Notify,
}

#[derive(Default)]
struct Table {
    keys: backend::Subscriptions<Arc<str>, State>,
    /// The keys that are not watched yet, and perhaps some that are watched or gone.
    unwatched: Vec<Arc<str>>,
    /// The watched keys of each hash: hardly ever more than one.
    hashes: HashMap<i32, Vec<Arc<str>>>,
    /// Whether a listener watches the keys.
    has_listener: bool,
}

/// Whether this process is notified of releases of a key, and by which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unwatched,
    Watched { hash: i32, bucket: i32 },
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is locked.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes a waiter to the releases of a key.
    pub(crate) fn subscribe(&self, key: &str) -> Subscription {
        let key: Arc<str> = key.into();
        let Table { keys, unwatched, .. } = &mut *self.lock();
        keys.subscribe(key.clone(), || {
            unwatched.push(key);
            State::Unwatched
        })
    }

    /// Registers a listener for the keys. Returns `false` if there already was one.
    pub(crate) fn register_listener(&self) -> bool {
        !mem::replace(&mut self.lock().has_listener, true)
    }

    /// Deregisters the listener if no key is left to watch. A caller that subscribes does so either
    /// before that, and the listener stays, or after it, and starts another one.
    pub(crate) fn deregister_listener(&self) -> bool {
        let mut table = self.lock();
        table.has_listener = !table.keys.is_empty();
        !table.has_listener
    }

    /// Takes the keys that are not watched yet. Those that cannot be watched yet must be
    /// [put back](Self::put_back).
    pub(crate) fn take_unwatched(&self) -> Vec<String> {
        let mut table = self.lock();
        let unwatched = mem::take(&mut table.unwatched);
        let is_unwatched =
            |key: &Arc<str>| table.keys.get(key).is_some_and(|i| i.state == State::Unwatched);
        unwatched
            .iter()
            .filter(|key| is_unwatched(key))
            .map(|key| key.as_ref().to_owned())
            .collect()
    }

    /// Puts a key back among those that are not watched yet.
    pub(crate) fn put_back(&self, key: &str) {
        let mut table = self.lock();
        if table.keys.get(key).is_some() {
            table.unwatched.push(key.into());
        }
    }

    /// Marks a key as watched, and wakes its waiters, because earlier releases may have gone
    /// unnoticed.
    pub(crate) fn set_watched(&self, key: &str, hash: i32, bucket: i32) {
        let to_notify = {
            let mut table = self.lock();
            let Table { keys, hashes, .. } = &mut *table;
            let Some(watched) = keys.get_mut(key) else { return };
            if watched.state == State::Unwatched {
                watched.state = State::Watched { hash, bucket };
                hashes.entry(hash).or_default().push(key.into());
            }
            watched.subscription().clone()
        };
        to_notify.notify_waiters();
    }

    /// Marks all keys as not watched, because the connection is lost.
    pub(crate) fn set_all_unwatched(&self) {
        let mut table = self.lock();
        let Table { keys, unwatched, hashes, .. } = &mut *table;
        hashes.clear();
        unwatched.clear();
        for (key, watched) in keys.iter_mut() {
            watched.state = State::Unwatched;
            unwatched.push(key.clone());
        }
    }

    /// Wakes all waiters of keys with this hash.
    pub(crate) fn notify(&self, hash: i32) {
        let to_notify: Vec<_> = {
            let table = self.lock();
            let keys = table.hashes.get(&hash).into_iter().flatten();
            keys.filter_map(|key| table.keys.get(key)).map(|i| i.subscription().clone()).collect()
        };
        for subscription in to_notify {
            subscription.notify_waiters();
        }
    }

    /// Removes the keys that no task has waited for during `linger`.
    pub(crate) fn sweep(&self, linger: Duration) {
        let mut table = self.lock();
        let Table { keys, hashes, .. } = &mut *table;
        for (swept, state) in keys.sweep(linger) {
            if let State::Watched { hash, .. } = state
                && let Entry::Occupied(mut entry) = hashes.entry(hash)
            {
                entry.get_mut().retain(|key| *key != swept);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
        }
    }

    /// Returns the buckets of the watched keys.
    pub(crate) fn buckets(&self) -> HashSet<i32> {
        let bucket = |(_, watched): (_, &SubscribedKey<State>)| match watched.state {
            State::Watched { bucket, .. } => Some(bucket),
            State::Unwatched => None,
        };
        self.lock().keys.iter().filter_map(bucket).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::Pin,
        task::Poll,
    };

    use std::time::Duration;

    use syncguard_core::backend::LINGER;

    use super::{Subscription, Subscriptions};

    fn notified(subscription: &Subscription) -> Pin<Box<impl Future<Output = ()> + use<>>> {
        Box::pin(subscription.notified())
    }

    async fn is_notified(notification: &mut Pin<Box<impl Future<Output = ()>>>) -> bool {
        poll_fn(|context| Poll::Ready(notification.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_release_wakes_only_the_waiters_of_its_hash() {
        let subscriptions = Subscriptions::default();
        let held = ["a", "b", "a", "c"].map(|key| subscriptions.subscribe(key));
        assert_eq!(subscriptions.take_unwatched(), ["a", "b", "c"]);
        assert!(subscriptions.take_unwatched().is_empty(), "each is wanted once");
        for (key, hash) in [("a", 1), ("b", 2), ("c", 1)] {
            subscriptions.set_watched(key, hash, 0);
        }
        let mut all = held.each_ref().map(notified);
        subscriptions.notify(1);
        let [one, other, another, of_same_hash] = &mut all;
        assert!(is_notified(one).await && is_notified(another).await && !is_notified(other).await);
        assert!(is_notified(of_same_hash).await, "two keys may have one hash");
    }

    #[tokio::test]
    async fn watching_a_key_again_wakes_all_its_waiters_once() {
        let subscriptions = Subscriptions::default();
        let subscription = subscriptions.subscribe("a");
        subscriptions.set_watched("a", 1, 1);
        subscriptions.set_all_unwatched();
        assert!(subscriptions.buckets().is_empty());
        let mut notification = notified(&subscription);
        subscriptions.notify(1);
        assert!(!is_notified(&mut notification).await, "nothing is watched");
        assert_eq!(subscriptions.take_unwatched(), ["a"]);
        subscriptions.set_watched("a", 1, 7);
        assert!(is_notified(&mut notification).await);
        assert_eq!(subscriptions.buckets(), [7].into());
    }

    #[tokio::test]
    async fn a_key_without_waiters_is_swept_and_watched_again_when_a_waiter_returns() {
        let subscriptions = Subscriptions::default();
        let [left, kept] = ["left", "kept"].map(|key| subscriptions.subscribe(key));
        subscriptions.take_unwatched();
        subscriptions.set_watched("left", 1, 1);
        subscriptions.set_watched("kept", 1, 1);
        drop(left);
        subscriptions.sweep(Duration::ZERO);
        let mut notification = notified(&kept);
        subscriptions.notify(1);
        assert!(is_notified(&mut notification).await, "the other key of the hash is still watched");
        assert!(subscriptions.take_unwatched().is_empty());
        let back = subscriptions.subscribe("left");
        assert_eq!(subscriptions.take_unwatched(), ["left"]);
        subscriptions.put_back("left");
        subscriptions.put_back("unknown");
        assert_eq!(subscriptions.take_unwatched(), ["left"], "it could not be watched");
        subscriptions.set_watched("left", 1, 1);
        let mut notification = notified(&back);
        subscriptions.notify(1);
        assert!(is_notified(&mut notification).await);
    }

    #[test]
    fn a_listener_stays_while_there_are_keys() {
        let subscriptions = Subscriptions::default();
        assert!(
            subscriptions.register_listener() && !subscriptions.register_listener(),
            "one is enough"
        );
        let subscription = subscriptions.subscribe("a");
        drop(subscription);
        subscriptions.sweep(LINGER);
        assert!(!subscriptions.deregister_listener(), "the key lingers");
        assert!(!subscriptions.register_listener());
    }

    #[test]
    fn a_listener_that_has_ended_is_replaced() {
        let subscriptions = Subscriptions::default();
        assert!(subscriptions.register_listener() && subscriptions.deregister_listener());
        let _subscription = subscriptions.subscribe("a");
        assert!(subscriptions.register_listener());
    }
}
