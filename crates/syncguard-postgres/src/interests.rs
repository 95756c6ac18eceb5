//! The keys that somebody waits for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a key is watched when nobody waits for it any more. Who waits for a lock that is fought
/// over comes back in no time.
const LINGER: Duration = Duration::from_secs(10);

/// All keys that somebody waits for, or did a moment ago.
#[derive(Default)]
pub(crate) struct Interests {
    table: Mutex<Table>,
    /// Tells the listener that a key is wanted.
    pub(crate) wanted: Notify,
}

#[derive(Default)]
struct Table {
    keys: HashMap<String, Interest>,
    /// Whether a listener looks after them.
    attended: bool,
}

struct Interest {
    waiting: usize,
    state: State,
    left_at: Instant,
    news: Arc<Notify>,
}

/// Whether releases of a key are told to us, and by which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Watched { hash: i32 },
}

/// A place among those who wait for a key.
pub(crate) struct Seat<'a> {
    interests: &'a Interests,
    key: String,
    pub(crate) news: Arc<Notify>,
}

impl<'a> Seat<'a> {
    pub(crate) fn take(interests: &'a Interests, key: String) -> Self {
        let mut table = interests.lock();
        let interest = table.keys.entry(key.clone()).or_insert_with(|| Interest {
            waiting: 0,
            state: State::Wanted,
            left_at: Instant::now(),
            news: Arc::default(),
        });
        interest.waiting += 1;
        let news = interest.news.clone();
        Self { interests, key, news }
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

    /// Says that a listener looks after the keys from now on; `false` if one did already.
    pub(crate) fn attend(&self) -> bool {
        !std::mem::replace(&mut self.lock().attended, true)
    }

    /// Says that the listener goes, if there is nothing left to look after. One who takes a seat
    /// comes either before that, and the listener stays, or after it, and starts another.
    pub(crate) fn retire(&self) -> bool {
        let mut table = self.lock();
        table.attended = !table.keys.is_empty();
        !table.attended
    }

    /// Gives the keys that are not watched yet.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let table = self.lock();
        let wanted = table.keys.iter().filter(|(_, interest)| interest.state == State::Wanted);
        wanted.map(|(key, _)| key.clone()).collect()
    }

    /// Takes a key for watched from now on. What happened before may have gone unnoticed, so that is
    /// news.
    pub(crate) fn watched(&self, key: &str, hash: i32) {
        if let Some(interest) = self.lock().keys.get_mut(key) {
            interest.state = State::Watched { hash };
            interest.news.notify_waiters();
        }
    }

    /// Takes no key for watched any more: the connection is gone.
    pub(crate) fn want_all(&self) {
        for interest in self.lock().keys.values_mut() {
            interest.state = State::Wanted;
        }
    }

    /// Wakes all who wait for a key with this hash.
    pub(crate) fn tell(&self, hash: i32) {
        for interest in self.lock().keys.values() {
            if interest.state == (State::Watched { hash }) {
                interest.news.notify_waiters();
            }
        }
    }

    /// Removes the keys that nobody has waited for during a while, and gives those that are watched.
    pub(crate) fn sweep(&self) -> Vec<String> {
        let mut table = self.lock();
        let idle =
            |interest: &Interest| interest.waiting == 0 && interest.left_at.elapsed() > LINGER;
        let swept = table.keys.extract_if(|_, interest| idle(interest));
        swept.filter(|(_, swept)| swept.state != State::Wanted).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::Pin,
        task::Poll,
    };

    use tokio::sync::futures::OwnedNotified;

    use super::{Interests, Seat};

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
        let seats = ["a", "b", "a"].map(|key| Seat::take(&interests, key.to_owned()));
        interests.watched("a", 1);
        interests.watched("b", 2);
        let mut all = seats.each_ref().map(news);
        interests.tell(1);
        let [one, other, another] = &mut all;
        assert!(is_told(one).await && is_told(another).await && !is_told(other).await);
    }

    #[tokio::test]
    async fn watching_anew_wakes_everybody_once() {
        let interests = Interests::default();
        let seat = Seat::take(&interests, "a".to_owned());
        interests.watched("a", 1);
        interests.want_all();
        let mut told = news(&seat);
        interests.tell(1);
        assert!(!is_told(&mut told).await, "nothing is watched");
        assert_eq!(interests.wanted(), ["a"]);
        interests.watched("a", 1);
        assert!(is_told(&mut told).await);
    }

    #[test]
    fn a_listener_stays_while_there_are_keys() {
        let interests = Interests::default();
        assert!(interests.attend() && !interests.attend(), "one is enough");
        let seat = Seat::take(&interests, "a".to_owned());
        drop(seat);
        assert!(interests.sweep().is_empty() && !interests.retire(), "the key lingers");
        assert!(!interests.attend());
    }

    #[test]
    fn a_listener_that_has_gone_is_replaced() {
        let interests = Interests::default();
        assert!(interests.attend() && interests.retire());
        let _seat = Seat::take(&interests, "a".to_owned());
        assert!(interests.attend());
    }
}
