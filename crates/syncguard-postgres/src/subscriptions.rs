//! The keys that tasks wait for.

use std::{
    collections::{HashMap, HashSet, hash_map},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use syncguard_core::{
    Fence,
    backend::{self, Entry, Notified, Standings, SubscribedKey, Subscription, Substitute, Turn},
};
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
    /// The waiters of those keys that are notified when it is their turn.
    waiters: Standings<Arc<str>>,
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

/// What is left to do after a notification of a release.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The keys whose turn no one wants here.
    pub(crate) unwanted: Vec<Arc<str>>,
    /// The waiters that take their turn after a delay unless there is another release before.
    pub(crate) substitutes: Vec<Substitute<Arc<str>>>,
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

    /// Subscribes a waiter to its turns at a key. The first handle keeps the key watched.
    pub(crate) fn subscribe_to_turns(&self, key: &str) -> (Subscription, Subscription) {
        let watched = self.subscribe(key);
        (watched, self.lock().waiters.subscribe(key.into()))
    }

    /// Records that a waiter was refused because of `holder`, if that is an exclusive holder. Returns
    /// what to enter the line with, if it is to enter.
    ///
    /// A waiter that is not notified of releases yet does not enter: it could not be notified of its
    /// turn, and it makes another attempt when the listener is ready.
    pub(crate) fn refused(&self, key: &str, holder: Option<Fence>) -> Option<Entry> {
        let mut table = self.lock();
        let is_watched = |watched: &SubscribedKey<_>| watched.state != State::Unwatched;
        table.keys.get(key).filter(|watched| is_watched(watched))?;
        table.waiters.refused(key, holder)
    }

    /// Records the place of a waiter that has entered the line.
    pub(crate) fn set_place(&self, key: &str, place: i64) {
        self.lock().waiters.set_place(key, place);
    }

    /// Records that a waiter could not enter the line.
    pub(crate) fn set_not_in_line(&self, key: &str) {
        self.lock().waiters.set_not_in_line(key);
    }

    /// Records a grant, with its fence if it is exclusive. Returns whether to leave the line.
    pub(crate) fn granted(&self, key: &str, fence: Option<Fence>) -> bool {
        self.lock().waiters.granted(key, fence)
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

    pub(crate) fn is_watched(&self, key: &str) -> bool {
        self.lock().keys.get(key).is_some_and(|key| key.state != State::Unwatched)
    }

    /// Marks a key as watched, and wakes its waiters, because earlier releases may have gone
    /// unnoticed.
    pub(crate) fn set_watched(&self, key: &str, hash: i32, bucket: i32) {
        let to_notify = {
            let mut table = self.lock();
            let Table { keys, hashes, .. } = &mut *table;
            let Some(watched) = keys.get_mut(key) else { return };
            let watched_subscription = watched.subscription().clone();
            if watched.state == State::Unwatched {
                watched.state = State::Watched { hash, bucket };
                hashes.entry(hash).or_default().push(key.into());
            }
            [Some(watched_subscription), table.waiters.subscription(key).cloned()]
        };
        to_notify.into_iter().flatten().for_each(|subscription| subscription.notify_waiters());
    }

    /// Marks all keys as not watched, because the connection is lost. A turn may have been lost with
    /// it, so the waiters count as not in line.
    pub(crate) fn set_all_unwatched(&self) {
        let mut table = self.lock();
        let Table { keys, waiters, unwatched, hashes, .. } = &mut *table;
        hashes.clear();
        unwatched.clear();
        waiters.set_none_in_line();
        for (key, watched) in keys.iter_mut() {
            watched.state = State::Unwatched;
            unwatched.push(key.clone());
        }
    }

    /// Notifies of a release of a key with this hash: those that wait for any release, and the
    /// waiters that are not in line or whose turn it is.
    pub(crate) fn notify(&self, hash: i32, turn: Turn) -> Left {
        let (mut to_notify, mut left) = (Vec::new(), Left::default());
        {
            let mut table = self.lock();
            let Table { keys, waiters, hashes, .. } = &mut *table;
            let keys_of_hash = hashes.get(&hash).into_iter().flatten();
            for (key, watched) in keys_of_hash.filter_map(|key| Some((key, keys.get(key)?))) {
                to_notify.push(watched.subscription().clone());
                match waiters.notify(key, turn) {
                    Notified::Now(subscription) => to_notify.push(subscription),
                    Notified::Later(substitute) => left.substitutes.push(substitute),
                    Notified::Unwanted => left.unwanted.push(key.clone()),
                    Notified::Behind => {}
                }
            }
        }
        to_notify.iter().for_each(Subscription::notify_waiters);
        left
    }

    /// Notifies the waiters of a key that no one else has taken their turn, unless there was another
    /// release since.
    pub(crate) fn notify_substitute(&self, substitute: &Substitute<Arc<str>>) {
        let to_notify = self.lock().waiters.substitute(substitute).cloned();
        to_notify.iter().for_each(Subscription::notify_waiters);
    }

    /// Returns the keys for which this process is in line although no task has waited for them
    /// during `linger`.
    pub(crate) fn sweep_waiters(&self, linger: Duration) -> Vec<Arc<str>> {
        self.lock().waiters.sweep(linger)
    }

    /// Removes the keys that no task has waited for during `linger`.
    pub(crate) fn sweep(&self, linger: Duration) {
        let mut table = self.lock();
        let Table { keys, hashes, .. } = &mut *table;
        for (swept, state) in keys.sweep(linger) {
            if let State::Watched { hash, .. } = state
                && let hash_map::Entry::Occupied(mut entry) = hashes.entry(hash)
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

    use super::{Subscription, Subscriptions, Turn};

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
        subscriptions.notify(1, Turn::Open);
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
        subscriptions.notify(1, Turn::Open);
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
        subscriptions.notify(1, Turn::Open);
        assert!(is_notified(&mut notification).await, "the other key of the hash is still watched");
        assert!(subscriptions.take_unwatched().is_empty());
        let back = subscriptions.subscribe("left");
        assert_eq!(subscriptions.take_unwatched(), ["left"]);
        subscriptions.put_back("left");
        subscriptions.put_back("unknown");
        assert_eq!(subscriptions.take_unwatched(), ["left"], "it could not be watched");
        subscriptions.set_watched("left", 1, 1);
        let mut notification = notified(&back);
        subscriptions.notify(1, Turn::Open);
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

    /// Subscribes a waiter to its turns at a watched key, and puts it in line.
    fn in_line(subscriptions: &Subscriptions) -> (Subscription, Subscription) {
        let handles = subscriptions.subscribe_to_turns("a");
        subscriptions.set_watched("a", 1, 1);
        assert_eq!(subscriptions.refused("a", None).unwrap().place, None);
        handles
    }

    #[tokio::test]
    async fn a_release_notifies_all_who_wait_for_it_and_those_whose_turn_it_is() {
        let subscriptions = Subscriptions::default();
        let (watched, turns) = in_line(&subscriptions);
        let (mut turn, mut release) = (notified(&turns), notified(&watched));
        subscriptions.notify(1, Turn::Behind);
        assert!(is_notified(&mut release).await && !is_notified(&mut turn).await);
        let left = subscriptions.notify(1, Turn::Substitute(1));
        assert!(left.unwanted.is_empty() && !is_notified(&mut turn).await);
        subscriptions.notify_substitute(&left.substitutes[0]);
        assert!(is_notified(&mut turn).await);
        drop((turn, turns));
        assert_eq!(subscriptions.notify(1, Turn::First).unwanted, ["a".into()]);
    }

    #[test]
    fn a_waiter_enters_the_line_again_after_a_lost_connection() {
        let subscriptions = Subscriptions::default();
        let _handles = in_line(&subscriptions);
        subscriptions.set_place("a", 7);
        subscriptions.set_all_unwatched();
        assert!(subscriptions.refused("a", None).is_none(), "it cannot be notified");
        subscriptions.set_watched("a", 1, 1);
        assert_eq!(subscriptions.refused("a", None).unwrap().place, Some(7));
    }

    #[test]
    fn only_a_waiter_that_can_be_notified_enters_the_line() {
        let subscriptions = Subscriptions::default();
        assert!(subscriptions.refused("a", None).is_none(), "it does not wait");
        let handles = subscriptions.subscribe_to_turns("a");
        assert!(subscriptions.refused("a", None).is_none(), "the key is not watched");
        subscriptions.set_watched("a", 1, 1);
        drop(handles);
        assert!(subscriptions.refused("a", None).is_none(), "it has left");
    }
}
