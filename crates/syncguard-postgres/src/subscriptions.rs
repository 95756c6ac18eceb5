//! The keys that tasks wait for.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use syncguard_core::{
    Fence,
    backend::{self, SubscribedKey, Subscription},
};
use tokio::{sync::Notify, time::Instant};

use crate::released::Turn;

/// How long a waiter counts as in line; then it enters again.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(30);

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
    waiters: backend::Subscriptions<Arc<str>, Standing>,
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

/// How the waiters of this process stand in the line of a key (see [`Line`](crate::line::Line)).
#[derive(Default)]
struct Standing {
    /// Their place, since they first entered the line without being granted the key.
    place: Option<i64>,
    /// Since when they have been in line. They are not, as far as is known, after it was their turn.
    in_line: Option<Instant>,
    /// The fence of the last exclusive grant to this process.
    granted: Option<Fence>,
    /// How many releases were notified of.
    releases: u64,
}

/// What is left to do after a notification of a release.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notified {
    /// The keys whose turn no one wants here.
    pub(crate) unwanted: Vec<Arc<str>>,
    /// The waiters that take their turn after a delay unless there is another release before.
    pub(crate) substitutes: Vec<Substitute>,
}

/// A waiter that takes its turn unless there is another release before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Substitute {
    key: Arc<str>,
    /// The number of the release.
    release: u64,
    pub(crate) rank: u32,
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
        (watched, self.lock().waiters.subscribe(key.into(), Standing::default))
    }

    /// Records that a waiter was refused because of `holder`, if that is an exclusive holder.
    /// Returns whether to enter the line, and the waiter's place if it comes back.
    ///
    /// A waiter that is not notified of releases yet does not enter: it could not be notified of its
    /// turn, and it makes another attempt when the listener is ready.
    pub(crate) fn refused(&self, key: &str, holder: Option<Fence>) -> Option<Option<i64>> {
        let mut table = self.lock();
        let is_watched = |watched: &SubscribedKey<_>| watched.state != State::Unwatched;
        if !table.keys.get(key).is_some_and(is_watched) {
            return None;
        }
        let waiter = table.waiters.get_mut(key).filter(|waiter| waiter.has_waiter())?;
        let standing = &mut waiter.state;
        if holder.is_some() && holder == standing.granted {
            return None;
        }
        if standing.in_line.is_some_and(|since| since.elapsed() < MAX_AGE) {
            return None;
        }
        standing.in_line = Some(Instant::now());
        Some(standing.place)
    }

    /// Records the place of a waiter that has entered the line.
    pub(crate) fn set_place(&self, key: &str, place: i64) {
        if let Some(waiter) = self.lock().waiters.get_mut(key)
            && waiter.state.in_line.is_some()
        {
            waiter.state.place = Some(place);
        }
    }

    /// Records that a waiter could not enter the line.
    pub(crate) fn set_not_in_line(&self, key: &str) {
        if let Some(waiter) = self.lock().waiters.get_mut(key) {
            waiter.state.in_line = None;
        }
    }

    /// Records a grant, with its fence if it is exclusive. Returns whether to leave the line.
    pub(crate) fn granted(&self, key: &str, fence: Option<Fence>) -> bool {
        let mut table = self.lock();
        let Some(waiter) = table.waiters.get_mut(key) else { return false };
        let in_line = waiter.state.in_line.is_some();
        let releases = waiter.state.releases;
        waiter.state = Standing { granted: fence, releases, ..Standing::default() };
        in_line
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
            let waiters = table.waiters.get(key).map(SubscribedKey::subscription);
            [Some(watched_subscription), waiters.cloned()]
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
        waiters.iter_mut().for_each(|(_, waiter)| waiter.state.in_line = None);
        for (key, watched) in keys.iter_mut() {
            watched.state = State::Unwatched;
            unwatched.push(key.clone());
        }
    }

    /// Notifies of a release of a key with this hash: those that wait for any release, and the
    /// waiters that are not in line or whose turn it is.
    pub(crate) fn notify(&self, hash: i32, turn: Turn) -> Notified {
        let (mut to_notify, mut left) = (Vec::new(), Notified::default());
        {
            let mut table = self.lock();
            let Table { keys, waiters, hashes, .. } = &mut *table;
            let keys_of_hash = hashes.get(&hash).into_iter().flatten();
            for (key, watched) in keys_of_hash.filter_map(|key| Some((key, keys.get(key)?))) {
                to_notify.push(watched.subscription().clone());
                match waiters.get_mut(key).filter(|waiter| waiter.has_waiter()) {
                    Some(waiter) => {
                        let standing = &mut waiter.state;
                        standing.releases += 1;
                        match turn {
                            Turn::First => standing.in_line = None,
                            Turn::Substitute(rank) => {
                                let (key, release) = (key.clone(), standing.releases);
                                left.substitutes.push(Substitute { key, release, rank });
                            }
                            Turn::Open | Turn::Behind => {}
                        }
                        if turn == Turn::Open || standing.in_line.is_none() {
                            to_notify.push(waiter.subscription().clone());
                        }
                    }
                    None if turn == Turn::First => left.unwanted.push(key.clone()),
                    None => {}
                }
            }
        }
        to_notify.iter().for_each(Subscription::notify_waiters);
        left
    }

    /// Notifies the waiters of a key that no one else has taken their turn, unless there was another
    /// release since.
    pub(crate) fn notify_substitute(&self, Substitute { key, release, .. }: &Substitute) {
        let to_notify = {
            let table = self.lock();
            let waiter = table.waiters.get(key).filter(|waiter| waiter.state.releases == *release);
            waiter.map(|waiter| waiter.subscription().clone())
        };
        to_notify.iter().for_each(Subscription::notify_waiters);
    }

    /// Returns the keys for which this process is in line although no task has waited for them
    /// during `linger`.
    pub(crate) fn sweep_waiters(&self, linger: Duration) -> Vec<Arc<str>> {
        let swept = self.lock().waiters.sweep(linger).into_iter();
        swept.filter(|(_, standing)| standing.in_line.is_some()).map(|(key, _)| key).collect()
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

    use super::{Fence, MAX_AGE, Notified, Subscription, Subscriptions, Turn};

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
    fn in_line(subscriptions: &Subscriptions, key: &str) -> (Subscription, Subscription) {
        let handles = subscriptions.subscribe_to_turns(key);
        subscriptions.set_watched(key, 1, 1);
        assert_eq!(subscriptions.refused(key, None), Some(None));
        handles
    }

    #[tokio::test]
    async fn of_those_in_line_a_release_wakes_only_the_one_whose_turn_it_is() {
        let subscriptions = Subscriptions::default();
        let (watched, turns) = subscriptions.subscribe_to_turns("a");
        subscriptions.set_watched("a", 1, 1);
        let mut turn = notified(&turns);
        subscriptions.notify(1, Turn::Behind);
        assert!(is_notified(&mut turn).await, "it is not in line");
        assert_eq!(subscriptions.refused("a", None), Some(None));
        assert_eq!(subscriptions.refused("a", None), None, "it is in line");
        let (mut turn, mut release) = (notified(&turns), notified(&watched));
        subscriptions.notify(1, Turn::Behind);
        assert!(is_notified(&mut release).await && !is_notified(&mut turn).await);
        subscriptions.notify(1, Turn::Open);
        assert!(is_notified(&mut turn).await, "no one is in line at the store");
        let mut turn = notified(&turns);
        subscriptions.notify(1, Turn::First);
        assert!(is_notified(&mut turn).await);
        let mut turn = notified(&turns);
        subscriptions.notify(1, Turn::Behind);
        assert!(is_notified(&mut turn).await, "it left the line with its turn");
    }

    #[tokio::test]
    async fn a_substitute_is_woken_unless_there_is_another_release() {
        let subscriptions = Subscriptions::default();
        let (_watched, turns) = in_line(&subscriptions, "a");
        for is_last in [false, true] {
            let mut turn = notified(&turns);
            let Notified { substitutes, unwanted } = subscriptions.notify(1, Turn::Substitute(2));
            assert!(unwanted.is_empty());
            let [substitute] = &substitutes[..] else { panic!("{substitutes:?}") };
            assert_eq!(substitute.rank, 2);
            if !is_last {
                subscriptions.notify(1, Turn::Behind);
            }
            assert!(!is_notified(&mut turn).await);
            subscriptions.notify_substitute(substitute);
            assert_eq!(is_notified(&mut turn).await, is_last);
        }
    }

    #[test]
    fn a_turn_that_no_one_wants_is_to_be_passed_on() {
        let subscriptions = Subscriptions::default();
        let handles = in_line(&subscriptions, "a");
        assert_eq!(subscriptions.notify(1, Turn::First), Notified::default());
        drop(handles);
        assert_eq!(subscriptions.notify(1, Turn::First).unwanted, ["a".into()]);
        assert_eq!(subscriptions.notify(1, Turn::Behind), Notified::default());
    }

    #[test]
    fn a_waiter_keeps_its_place_until_it_is_granted_the_key() {
        let subscriptions = Subscriptions::default();
        let _handles = in_line(&subscriptions, "a");
        subscriptions.set_place("a", 7);
        subscriptions.notify(1, Turn::First);
        assert_eq!(subscriptions.refused("a", None), Some(Some(7)), "another one was faster");
        let fence = |number| Some(Fence::new(number).unwrap());
        assert!(subscriptions.granted("a", fence(3)));
        assert!(!subscriptions.granted("a", fence(4)), "it has left the line");
        assert_eq!(subscriptions.refused("a", fence(4)), None, "it is refused by itself");
        assert_eq!(subscriptions.refused("a", fence(5)), Some(None));
        subscriptions.set_not_in_line("a");
        assert_eq!(subscriptions.refused("a", fence(5)), Some(None), "it could not enter");
    }

    #[test]
    fn a_waiter_enters_the_line_again_after_a_lost_connection() {
        let subscriptions = Subscriptions::default();
        let _handles = in_line(&subscriptions, "a");
        subscriptions.set_place("a", 7);
        subscriptions.set_all_unwatched();
        assert_eq!(subscriptions.refused("a", None), None, "it cannot be notified");
        subscriptions.set_watched("a", 1, 1);
        assert_eq!(subscriptions.refused("a", None), Some(Some(7)), "a turn may have been lost");
    }

    #[test]
    fn only_a_waiter_that_can_be_notified_enters_the_line() {
        let subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.refused("a", None), None, "it does not wait");
        let handles = subscriptions.subscribe_to_turns("a");
        assert_eq!(subscriptions.refused("a", None), None, "the key is not watched");
        subscriptions.set_watched("a", 1, 1);
        drop(handles);
        assert_eq!(subscriptions.refused("a", None), None, "it has left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_enters_the_line_again_in_time_and_leaves_it_when_it_is_swept() {
        let subscriptions = Subscriptions::default();
        let handles = in_line(&subscriptions, "a");
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(subscriptions.refused("a", None), Some(None));
        assert!(subscriptions.sweep_waiters(Duration::ZERO).is_empty());
        drop(handles);
        assert_eq!(subscriptions.sweep_waiters(Duration::ZERO), ["a".into()]);
        assert!(subscriptions.sweep_waiters(Duration::ZERO).is_empty());
    }
}
