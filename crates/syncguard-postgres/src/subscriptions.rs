//! The keys that tasks wait for.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a key is watched after its last waiter has left. A waiter for a contended lock comes
/// back very soon.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// The keys that a task waits for, or waited for a moment ago.
#[derive(Default)]
pub(crate) struct Subscriptions {
    table: Mutex<Table>,
    /// Notifies the listener that a key is to be watched.
    pub(crate) added: Notify,
}

#[derive(Default)]
struct Table {
    keys: HashMap<Arc<str>, WatchedKey>,
    /// The keys that are not watched yet, and perhaps some that are watched or gone.
    unwatched: Vec<Arc<str>>,
    /// The watched keys of each hash: hardly ever more than one.
    hashes: HashMap<i32, Vec<Arc<str>>>,
    /// Whether a listener watches the keys.
    has_listener: bool,
}

struct WatchedKey {
    waiters: usize,
    state: State,
    left_at: Instant,
    notify: Arc<Notify>,
}

/// Whether this process is notified of releases of a key, and by which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unwatched,
    Watched { hash: i32, bucket: i32 },
}

/// A subscription to the releases of a key. It ends when it is dropped.
pub(crate) struct Subscription<'a> {
    subscriptions: &'a Subscriptions,
    key: Arc<str>,
    pub(crate) notify: Arc<Notify>,
}

impl<'a> Subscription<'a> {
    pub(crate) fn new(subscriptions: &'a Subscriptions, key: &str) -> Self {
        let mut table = subscriptions.lock();
        let known = table.keys.get_key_value(key).map(|(key, _)| key.clone());
        let key = known.unwrap_or_else(|| table.add(key));
        let watched = table.keys.entry(key.clone()).or_insert_with(WatchedKey::new);
        watched.waiters += 1;
        let notify = watched.notify.clone();
        Self { subscriptions, key, notify }
    }
}

impl WatchedKey {
    fn new() -> Self {
        Self {
            waiters: 0,
            state: State::Unwatched,
            left_at: Instant::now(),
            notify: Arc::default(),
        }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        if let Some(watched) = self.subscriptions.lock().keys.get_mut(&self.key) {
            watched.waiters -= 1;
            watched.left_at = Instant::now();
        }
    }
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is locked.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some((key, _)) = table.keys.get_key_value(key) {
            let key = key.clone();
            table.unwatched.push(key);
        }
    }

    /// Marks a key as watched, and wakes its waiters, because earlier releases may have gone
    /// unnoticed.
    pub(crate) fn set_watched(&self, key: &str, hash: i32, bucket: i32) {
        let notify = {
            let mut table = self.lock();
            let Table { keys, hashes, .. } = &mut *table;
            let Some(watched) = keys.get_mut(key) else { return };
            if watched.state == State::Unwatched {
                watched.state = State::Watched { hash, bucket };
                hashes.entry(hash).or_default().push(key.into());
            }
            watched.notify.clone()
        };
        notify.notify_waiters();
    }

    /// Marks all keys as not watched, because the connection is lost.
    pub(crate) fn set_all_unwatched(&self) {
        let mut table = self.lock();
        let Table { keys, unwatched, hashes, .. } = &mut *table;
        hashes.clear();
        unwatched.clear();
        for (key, watched) in keys {
            watched.state = State::Unwatched;
            unwatched.push(key.clone());
        }
    }

    /// Wakes all waiters of keys with this hash.
    pub(crate) fn notify(&self, hash: i32) {
        let to_notify: Vec<_> = {
            let table = self.lock();
            let keys = table.hashes.get(&hash).into_iter().flatten();
            keys.filter_map(|key| table.keys.get(key)).map(|i| i.notify.clone()).collect()
        };
        for notify in to_notify {
            notify.notify_waiters();
        }
    }

    /// Removes the keys that no task has waited for during `linger`.
    pub(crate) fn sweep(&self, linger: Duration) {
        let mut table = self.lock();
        let Table { keys, hashes, .. } = &mut *table;
        let idle = |i: &WatchedKey| i.waiters == 0 && i.left_at.elapsed() > linger;
        for (swept, watched) in keys.extract_if(|_, watched| idle(watched)) {
            if let State::Watched { hash, .. } = watched.state
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
        let bucket = |watched: &WatchedKey| match watched.state {
            State::Watched { bucket, .. } => Some(bucket),
            State::Unwatched => None,
        };
        self.lock().keys.values().filter_map(bucket).collect()
    }
}

impl Table {
    fn add(&mut self, key: &str) -> Arc<str> {
        let key: Arc<str> = key.into();
        self.unwatched.push(key.clone());
        key
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

    use tokio::sync::futures::OwnedNotified;

    use super::{LINGER, Subscription, Subscriptions};

    fn enabled(subscription: &Subscription<'_>) -> Pin<Box<OwnedNotified>> {
        let mut notification = Box::pin(subscription.notify.clone().notified_owned());
        notification.as_mut().enable();
        notification
    }

    async fn is_notified(notification: &mut Pin<Box<OwnedNotified>>) -> bool {
        poll_fn(|context| Poll::Ready(notification.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_release_wakes_only_the_waiters_of_its_hash() {
        let subscriptions = Subscriptions::default();
        let held = ["a", "b", "a", "c"].map(|key| Subscription::new(&subscriptions, key));
        assert_eq!(subscriptions.take_unwatched(), ["a", "b", "c"]);
        assert!(subscriptions.take_unwatched().is_empty(), "each is wanted once");
        for (key, hash) in [("a", 1), ("b", 2), ("c", 1)] {
            subscriptions.set_watched(key, hash, 0);
        }
        let mut all = held.each_ref().map(enabled);
        subscriptions.notify(1);
        let [one, other, another, of_same_hash] = &mut all;
        assert!(is_notified(one).await && is_notified(another).await && !is_notified(other).await);
        assert!(is_notified(of_same_hash).await, "two keys may have one hash");
    }

    #[tokio::test]
    async fn watching_a_key_again_wakes_all_its_waiters_once() {
        let subscriptions = Subscriptions::default();
        let subscription = Subscription::new(&subscriptions, "a");
        subscriptions.set_watched("a", 1, 1);
        subscriptions.set_all_unwatched();
        assert!(subscriptions.buckets().is_empty());
        let mut notification = enabled(&subscription);
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
        let [left, kept] = ["left", "kept"].map(|key| Subscription::new(&subscriptions, key));
        subscriptions.take_unwatched();
        subscriptions.set_watched("left", 1, 1);
        subscriptions.set_watched("kept", 1, 1);
        drop(left);
        subscriptions.sweep(Duration::ZERO);
        let mut notification = enabled(&kept);
        subscriptions.notify(1);
        assert!(is_notified(&mut notification).await, "the other key of the hash is still watched");
        assert!(subscriptions.take_unwatched().is_empty());
        let back = Subscription::new(&subscriptions, "left");
        assert_eq!(subscriptions.take_unwatched(), ["left"]);
        subscriptions.put_back("left");
        subscriptions.put_back("unknown");
        assert_eq!(subscriptions.take_unwatched(), ["left"], "it could not be watched");
        subscriptions.set_watched("left", 1, 1);
        let mut notification = enabled(&back);
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
        let subscription = Subscription::new(&subscriptions, "a");
        drop(subscription);
        subscriptions.sweep(LINGER);
        assert!(!subscriptions.deregister_listener(), "the key lingers");
        assert!(!subscriptions.register_listener());
    }

    #[test]
    fn a_listener_that_has_ended_is_replaced() {
        let subscriptions = Subscriptions::default();
        assert!(subscriptions.register_listener() && subscriptions.deregister_listener());
        let _subscription = Subscription::new(&subscriptions, "a");
        assert!(subscriptions.register_listener());
    }
}
