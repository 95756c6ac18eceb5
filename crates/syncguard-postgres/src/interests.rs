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

/// All keys that a task waits for, or did a moment ago.
#[derive(Default)]
pub(crate) struct Interests {
    table: Mutex<Table>,
    /// Notifies the listener that a key is wanted.
    pub(crate) wanted: Notify,
}

#[derive(Default)]
struct Table {
    keys: HashMap<Arc<str>, Interest>,
    /// The keys that are not watched yet, and perhaps some that are watched or gone.
    wanted: Vec<Arc<str>>,
    /// The watched keys of each hash: hardly ever more than one.
    hashes: HashMap<i32, Vec<Arc<str>>>,
    /// Whether a listener watches the keys.
    attended: bool,
}

struct Interest {
    waiting: usize,
    state: State,
    left_at: Instant,
    news: Arc<Notify>,
}

/// Whether this process is notified of releases of a key, and by which hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Watched { hash: i32, bucket: i32 },
}

/// A subscription to a key.
pub(crate) struct Seat<'a> {
    interests: &'a Interests,
    key: Arc<str>,
    pub(crate) news: Arc<Notify>,
}

impl<'a> Seat<'a> {
    pub(crate) fn take(interests: &'a Interests, key: &str) -> Self {
        let mut table = interests.lock();
        let known = table.keys.get_key_value(key).map(|(key, _)| key.clone());
        let key = known.unwrap_or_else(|| table.add(key));
        let interest = table.keys.entry(key.clone()).or_insert_with(Interest::new);
        interest.waiting += 1;
        let news = interest.news.clone();
        Self { interests, key, news }
    }
}

impl Interest {
    fn new() -> Self {
        Self { waiting: 0, state: State::Wanted, left_at: Instant::now(), news: Arc::default() }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(interest) = self.interests.lock().keys.get_mut(&self.key) {
            interest.waiting -= 1;
            interest.left_at = Instant::now();
        }
    }
}

impl Interests {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is locked.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a listener for the keys. Returns `false` if there already was one.
    pub(crate) fn attend(&self) -> bool {
        !mem::replace(&mut self.lock().attended, true)
    }

    /// Deregisters the listener if no key is left to watch. A caller that subscribes does so either
    /// before that, and the listener stays, or after it, and starts another one.
    pub(crate) fn retire(&self) -> bool {
        let mut table = self.lock();
        table.attended = !table.keys.is_empty();
        !table.attended
    }

    /// Takes the keys that are not watched yet. Those that cannot be watched are to be
    /// [wanted again](Self::want).
    pub(crate) fn wanted(&self) -> Vec<String> {
        let mut table = self.lock();
        let wanted = mem::take(&mut table.wanted);
        let is_wanted =
            |key: &Arc<str>| table.keys.get(key).is_some_and(|i| i.state == State::Wanted);
        wanted.iter().filter(|key| is_wanted(key)).map(|key| key.as_ref().to_owned()).collect()
    }

    /// Puts a key back among those that are not watched yet.
    pub(crate) fn want(&self, key: &str) {
        let mut table = self.lock();
        if let Some((key, _)) = table.keys.get_key_value(key) {
            let key = key.clone();
            table.wanted.push(key);
        }
    }

    /// Regards a key as watched from now on, and wakes its waiters: earlier releases may have gone
    /// unnoticed.
    pub(crate) fn watched(&self, key: &str, hash: i32, bucket: i32) {
        let news = {
            let mut table = self.lock();
            let Table { keys, hashes, .. } = &mut *table;
            let Some(interest) = keys.get_mut(key) else { return };
            if interest.state == State::Wanted {
                interest.state = State::Watched { hash, bucket };
                hashes.entry(hash).or_default().push(key.into());
            }
            interest.news.clone()
        };
        news.notify_waiters();
    }

    /// Regards no key as watched any more, because the connection is gone.
    pub(crate) fn want_all(&self) {
        let mut table = self.lock();
        let Table { keys, wanted, hashes, .. } = &mut *table;
        hashes.clear();
        wanted.clear();
        for (key, interest) in keys {
            interest.state = State::Wanted;
            wanted.push(key.clone());
        }
    }

    /// Wakes all waiters of keys with this hash.
    pub(crate) fn notify(&self, hash: i32) {
        let news: Vec<_> = {
            let table = self.lock();
            let keys = table.hashes.get(&hash).into_iter().flatten();
            keys.filter_map(|key| table.keys.get(key)).map(|i| i.news.clone()).collect()
        };
        for news in news {
            news.notify_waiters();
        }
    }

    /// Removes the keys that no task has waited for during `linger`.
    pub(crate) fn sweep(&self, linger: Duration) {
        let mut table = self.lock();
        let Table { keys, hashes, .. } = &mut *table;
        let idle = |i: &Interest| i.waiting == 0 && i.left_at.elapsed() > linger;
        for (swept, interest) in keys.extract_if(|_, interest| idle(interest)) {
            if let State::Watched { hash, .. } = interest.state
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
        let bucket = |interest: &Interest| match interest.state {
            State::Watched { bucket, .. } => Some(bucket),
            State::Wanted => None,
        };
        self.lock().keys.values().filter_map(bucket).collect()
    }
}

impl Table {
    fn add(&mut self, key: &str) -> Arc<str> {
        let key: Arc<str> = key.into();
        self.wanted.push(key.clone());
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

    use super::{Interests, LINGER, Seat};

    fn news(seat: &Seat<'_>) -> Pin<Box<OwnedNotified>> {
        let mut news = Box::pin(seat.news.clone().notified_owned());
        news.as_mut().enable();
        news
    }

    async fn is_told(news: &mut Pin<Box<OwnedNotified>>) -> bool {
        poll_fn(|context| Poll::Ready(news.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_release_wakes_those_who_wait_for_its_hash_and_no_others() {
        let interests = Interests::default();
        let seats = ["a", "b", "a", "c"].map(|key| Seat::take(&interests, key));
        assert_eq!(interests.wanted(), ["a", "b", "c"]);
        assert!(interests.wanted().is_empty(), "each is wanted once");
        for (key, hash) in [("a", 1), ("b", 2), ("c", 1)] {
            interests.watched(key, hash, 0);
        }
        let mut all = seats.each_ref().map(news);
        interests.notify(1);
        let [one, other, another, of_same_hash] = &mut all;
        assert!(is_told(one).await && is_told(another).await && !is_told(other).await);
        assert!(is_told(of_same_hash).await, "two keys may have one hash");
    }

    #[tokio::test]
    async fn watching_anew_wakes_everybody_once() {
        let interests = Interests::default();
        let seat = Seat::take(&interests, "a");
        interests.watched("a", 1, 1);
        interests.want_all();
        assert!(interests.buckets().is_empty());
        let mut told = news(&seat);
        interests.notify(1);
        assert!(!is_told(&mut told).await, "nothing is watched");
        assert_eq!(interests.wanted(), ["a"]);
        interests.watched("a", 1, 7);
        assert!(is_told(&mut told).await);
        assert_eq!(interests.buckets(), [7].into());
    }

    #[tokio::test]
    async fn a_key_that_was_left_is_swept_and_wanted_anew_when_a_task_comes_back() {
        let interests = Interests::default();
        let [left, kept] = ["left", "kept"].map(|key| Seat::take(&interests, key));
        interests.wanted();
        interests.watched("left", 1, 1);
        interests.watched("kept", 1, 1);
        drop(left);
        interests.sweep(Duration::ZERO);
        let mut told = news(&kept);
        interests.notify(1);
        assert!(is_told(&mut told).await, "the other key of the hash is still watched");
        assert!(interests.wanted().is_empty());
        let back = Seat::take(&interests, "left");
        assert_eq!(interests.wanted(), ["left"]);
        interests.want("left");
        interests.want("unknown");
        assert_eq!(interests.wanted(), ["left"], "it could not be watched");
        interests.watched("left", 1, 1);
        let mut told = news(&back);
        interests.notify(1);
        assert!(is_told(&mut told).await);
    }

    #[test]
    fn a_listener_stays_while_there_are_keys() {
        let interests = Interests::default();
        assert!(interests.attend() && !interests.attend(), "one is enough");
        let seat = Seat::take(&interests, "a");
        drop(seat);
        interests.sweep(LINGER);
        assert!(!interests.retire(), "the key lingers");
        assert!(!interests.attend());
    }

    #[test]
    fn a_listener_that_has_gone_is_replaced() {
        let interests = Interests::default();
        assert!(interests.attend() && interests.retire());
        let _seat = Seat::take(&interests, "a");
        assert!(interests.attend());
    }
}
