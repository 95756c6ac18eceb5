use std::{borrow::Borrow, hash::Hash, time::Duration};

use tokio::time::Instant;

use crate::{
    Fence,
    backend::{SubscribedKey, Subscription, Subscriptions},
};

/// How long a waiter is in line before it enters again by a request of its own.
const MAX_AGE: Duration = Duration::from_secs(30);

/// What a release means for the waiters of one client, if the store keeps the waiters of a key in
/// [line](crate::backend::LockBackend::turn).
///
/// A release takes the first waiters out of the line, and its notification names them. It also names
/// some of those behind them as substitutes, because the first may have died.
///
/// # Examples
///
/// ```
/// use syncguard_core::backend::Turn;
///
/// assert_eq!(Turn::of("b", "a,b c,d"), Turn::First);
/// assert_eq!(Turn::of("d", "a,b c,d"), Turn::Substitute(2));
/// assert_eq!(Turn::of("e", "a,b c,d"), Turn::Behind);
/// assert_eq!(Turn::of("e", ""), Turn::Open);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// No one is in line, and everyone may request the key.
    Open,
    /// It is their turn.
    First,
    /// It is their turn unless another one takes it: the first substitute has rank 1.
    Substitute(u32),
    /// It is the turn of others.
    Behind,
}

impl Turn {
    /// How many waiters a release names at most.
    pub const MAX_NOTIFIED: usize = 64;

    /// How many substitutes a release names.
    pub const SUBSTITUTES: usize = 3;

    /// How long the first substitute waits for the waiter whose turn it is, and each of the others
    /// for the one before. A waiter that is alive has sent its attempt by then, unless it is far
    /// away; then both attempts are sent, and one is refused.
    pub const SUBSTITUTE_DELAY: Duration = Duration::from_millis(50);

    /// How long a waiter stays in line after its last attempt. One that died costs a single delay of
    /// a substitute.
    pub const TIME_IN_LINE: Duration = Duration::from_secs(60);

    /// Reads what a notification means for `client`: the names of those whose turn it is, and after a
    /// space those of their substitutes, each separated by commas.
    pub fn of(client: &str, names: &str) -> Self {
        let (first, substitutes) = names.split_once(' ').unwrap_or((names, ""));
        if first.is_empty() {
            return Self::Open;
        }
        if first.split(',').any(|name| name == client) {
            return Self::First;
        }
        let rank = substitutes.split(',').zip(1..).find(|(name, _)| *name == client);
        rank.map_or(Self::Behind, |(_, rank)| Self::Substitute(rank))
    }
}

/// How the waiters of one client stand in the lines of their keys. For backends whose store keeps
/// the waiters of a key in [line](crate::backend::LockBackend::turn).
///
/// A client is in line once for each key, because only one of its waiters makes attempts.
///
/// **Invariant:** a waiter that a release does not wake is in line, as far as this client knows. The
/// release has named the first in line and some substitutes. If all of them have died, which takes
/// at least four deaths since the last release, the waiters' schedules take over.
///
/// An entry at the store is not a grant: whoever sends an attempt while the key is free is granted
/// the key. So the line may be wrong, and whatever concerns it may fail.
///
/// As [`Subscriptions`], this type contains no lock, and notifies no one itself.
#[derive(Debug)]
pub struct Standings<K>(Subscriptions<K, Standing>);

/// How the waiters stand in the line of one key.
#[derive(Debug, Default)]
struct Standing {
    /// Their place, since they first entered the line without being granted the key.
    place: Option<i64>,
    /// Since when they have been in line. They are not, as far as is known, after it was their turn.
    in_line: Option<Instant>,
    /// The fence of the last exclusive grant to this client.
    granted: Option<Fence>,
    /// How many releases were notified of.
    releases: u64,
}

/// What a waiter that enters the line knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its place, if it comes back.
    pub place: Option<i64>,
    /// The fence of the last exclusive grant to this client. A waiter that this grant refuses does
    /// not enter: it is notified locally.
    pub granted: Option<Fence>,
    /// Since when it counts as in line.
    since: Instant,
}

/// What is left to do after a notification of a release.
#[derive(Debug)]
#[must_use = "the waiters are not woken otherwise"]
pub enum Notified<K> {
    /// The waiters are to be woken.
    Now(Subscription),
    /// The waiters are to be woken after a [delay](Substitute::delay), unless there is another
    /// release before.
    Later(Substitute<K>),
    /// No one here wants the turn any more. It is to be passed on to the next in line.
    Unwanted,
    /// It is the turn of others.
    Behind,
}

/// A waiter that takes its turn unless there is another release before.
#[derive(Debug, PartialEq, Eq)]
pub struct Substitute<K> {
    key: K,
    /// The number of the release.
    release: u64,
    rank: u32,
}

impl<K> Substitute<K> {
    /// Returns how long it waits for those before it.
    pub fn delay(&self) -> Duration {
        Turn::SUBSTITUTE_DELAY * self.rank
    }
}

impl Standing {
    fn is_in_line(&self) -> bool {
        self.in_line.is_some_and(|since| since.elapsed() < Turn::TIME_IN_LINE)
    }
}

impl<K> Default for Standings<K> {
    fn default() -> Self {
        Self(Subscriptions::default())
    }
}

impl<K: Eq + Hash + Clone> Standings<K> {
    /// Subscribes a waiter to its turns at `key`.
    pub fn subscribe(&mut self, key: K) -> Subscription {
        self.0.subscribe(key, Standing::default)
    }

    /// Returns the subscription to the turns at `key`, for notifying its waiters.
    pub fn subscription<Q>(&self, key: &Q) -> Option<&Subscription>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get(key).map(SubscribedKey::subscription)
    }

    /// Returns all subscriptions, for notifying all waiters.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter().map(|(_, waiter)| waiter.subscription())
    }

    /// Returns what to enter the line of `key` with, if it has a waiter. For a store that is entered
    /// by the attempt that is refused.
    pub fn entry<Q>(&self, key: &Q) -> Option<Entry>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let waiter = self.0.get(key).filter(|waiter| waiter.has_waiter())?;
        let Standing { place, granted, .. } = waiter.state;
        Some(Entry { place, granted, since: Instant::now() })
    }

    /// Records that an attempt with this entry was refused, and has entered the line at this place.
    ///
    /// It may already be the waiter's turn. It has been notified of that then, makes another attempt,
    /// and enters again if it is refused.
    pub fn entered<Q>(&mut self, key: &Q, entry: &Entry, place: i64)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(waiter) = self.0.get_mut(key) {
            waiter.state.in_line = Some(entry.since);
            waiter.state.place = Some(place);
        }
    }

    /// Records that an attempt was refused because of `holder`, if that is an exclusive holder. For
    /// a store that is entered by a request of its own: returns what to enter the line with, unless
    /// the waiter is in line or is not to enter it. It counts as in line from now on.
    pub fn refused<Q>(&mut self, key: &Q, holder: Option<Fence>) -> Option<Entry>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let entry = self.entry(key)?;
        let standing = &mut self.0.get_mut(key)?.state;
        if holder.is_some() && holder == entry.granted {
            return None;
        }
        if standing.in_line.is_some_and(|since| since.elapsed() < MAX_AGE) {
            return None;
        }
        standing.in_line = Some(entry.since);
        Some(entry)
    }

    /// Records the place of a waiter that has entered the line by a request of its own.
    pub fn set_place<Q>(&mut self, key: &Q, place: i64)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(waiter) = self.0.get_mut(key)
            && waiter.state.in_line.is_some()
        {
            waiter.state.place = Some(place);
        }
    }

    /// Records that a waiter could not enter the line, or that its turn may have been lost.
    pub fn set_not_in_line<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(waiter) = self.0.get_mut(key) {
            waiter.state.in_line = None;
        }
    }

    /// Records that turns may have been lost, with the connection for example.
    pub fn set_none_in_line(&mut self) {
        self.0.iter_mut().for_each(|(_, waiter)| waiter.state.in_line = None);
    }

    /// Records a grant, with its fence if it is exclusive. Returns whether the client was in line,
    /// which it is to leave then.
    pub fn granted<Q>(&mut self, key: &Q, fence: Option<Fence>) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(waiter) = self.0.get_mut(key) else { return false };
        let in_line = waiter.state.in_line.is_some();
        let releases = waiter.state.releases;
        // The fence of a grant without a counter is not that grant's alone: as another client has it
        // too, a waiter that is refused by it enters the line.
        let granted = fence.filter(|fence| *fence != Fence::ZERO);
        waiter.state = Standing { granted, releases, ..Standing::default() };
        in_line
    }

    /// Records a release of `key`. The waiters are to be woken if it is their turn, or if they are
    /// not in line.
    pub fn notify(&mut self, key: &K, turn: Turn) -> Notified<K> {
        let Some(waiter) = self.0.get_mut(key).filter(|waiter| waiter.has_waiter()) else {
            return if turn == Turn::First { Notified::Unwanted } else { Notified::Behind };
        };
        let standing = &mut waiter.state;
        standing.releases += 1;
        if turn == Turn::First {
            standing.in_line = None;
        }
        match turn {
            _ if !standing.is_in_line() => Notified::Now(waiter.subscription().clone()),
            Turn::Open | Turn::First => Notified::Now(waiter.subscription().clone()),
            Turn::Substitute(rank) => {
                let release = standing.releases;
                Notified::Later(Substitute { key: key.clone(), release, rank })
            }
            Turn::Behind => Notified::Behind,
        }
    }

    /// Returns the waiters that take the turn of others, for notifying them, unless there was
    /// another release since.
    pub fn substitute(&self, substitute: &Substitute<K>) -> Option<&Subscription> {
        let waiter = self.0.get(&substitute.key)?;
        (waiter.state.releases == substitute.release).then(|| waiter.subscription())
    }

    /// Removes the keys that have had no waiter for `linger`. Returns those whose line this client
    /// is to leave.
    pub fn sweep(&mut self, linger: Duration) -> Vec<K> {
        let swept = self.0.sweep(linger).into_iter();
        swept.filter(|(_, standing)| standing.in_line.is_some()).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Fence, MAX_AGE, Notified, Standings, Subscription, Turn};

    type Lines = Standings<&'static str>;

    /// Puts a waiter in line.
    fn in_line(lines: &mut Lines) -> Subscription {
        let waiter = lines.subscribe("a");
        assert_eq!(place_to_enter(lines, None), Some(None));
        waiter
    }

    /// Refuses an attempt, and returns the place to enter the line with, if it is to enter.
    fn place_to_enter(lines: &mut Lines, holder: Option<Fence>) -> Option<Option<i64>> {
        lines.refused("a", holder).map(|entry| entry.place)
    }

    fn fence(number: u64) -> Option<Fence> {
        Some(Fence::new(number).unwrap())
    }

    fn is_woken(lines: &mut Lines, turn: Turn) -> bool {
        matches!(lines.notify(&"a", turn), Notified::Now(_))
    }

    #[test]
    fn a_notification_names_those_whose_turn_it_is_and_their_substitutes() {
        assert_eq!(Turn::of("a", ""), Turn::Open);
        assert_eq!(Turn::of("b", "a,b"), Turn::First);
        assert_eq!(Turn::of("d", "a c,d,e"), Turn::Substitute(2));
        assert_eq!(Turn::of("f", "a c,d,e"), Turn::Behind);
        assert_eq!(Turn::of("c", "a"), Turn::Behind);
    }

    #[test]
    fn of_those_in_line_a_release_wakes_only_the_one_whose_turn_it_is() {
        let mut lines = Lines::default();
        let _waiter = lines.subscribe("a");
        assert!(is_woken(&mut lines, Turn::Behind), "it is not in line");
        assert_eq!(place_to_enter(&mut lines, None), Some(None));
        assert_eq!(place_to_enter(&mut lines, None), None, "it is in line");
        assert!(!is_woken(&mut lines, Turn::Behind));
        assert!(is_woken(&mut lines, Turn::Open), "no one is in line at the store");
        assert!(is_woken(&mut lines, Turn::First));
        assert!(is_woken(&mut lines, Turn::Behind), "it left the line with its turn");
    }

    #[test]
    fn a_substitute_is_woken_unless_there_is_another_release() {
        let mut lines = Lines::default();
        let _waiter = in_line(&mut lines);
        for is_last in [false, true] {
            let Notified::Later(substitute) = lines.notify(&"a", Turn::Substitute(2)) else {
                panic!("it is not a substitute");
            };
            assert_eq!(substitute.delay(), 2 * Turn::SUBSTITUTE_DELAY);
            if !is_last {
                assert!(!is_woken(&mut lines, Turn::Behind));
            }
            assert_eq!(lines.substitute(&substitute).is_some(), is_last);
        }
    }

    #[test]
    fn a_turn_that_no_one_wants_is_to_be_passed_on() {
        let mut lines = Lines::default();
        let waiter = in_line(&mut lines);
        assert!(is_woken(&mut lines, Turn::First));
        drop(waiter);
        assert!(matches!(lines.notify(&"a", Turn::First), Notified::Unwanted));
        assert!(matches!(lines.notify(&"a", Turn::Behind), Notified::Behind));
    }

    #[test]
    fn a_waiter_keeps_its_place_until_it_is_granted_the_key() {
        let mut lines = Lines::default();
        let _waiter = in_line(&mut lines);
        lines.set_place("a", 7);
        assert!(is_woken(&mut lines, Turn::First));
        assert_eq!(place_to_enter(&mut lines, None), Some(Some(7)), "another one was faster");
        assert!(lines.granted("a", fence(3)));
        assert!(!lines.granted("a", fence(4)), "it has left the line");
        assert_eq!(place_to_enter(&mut lines, fence(4)), None, "it is refused by itself");
        assert_eq!(place_to_enter(&mut lines, fence(5)), Some(None));
        lines.set_not_in_line("a");
        assert_eq!(place_to_enter(&mut lines, fence(5)), Some(None), "it could not enter");
        lines.granted("a", fence(0));
        assert_eq!(place_to_enter(&mut lines, fence(0)), Some(None), "any claim has that fence");
    }

    #[test]
    fn a_waiter_enters_by_its_attempt_as_well() {
        let mut lines = Lines::default();
        assert_eq!(lines.entry("a"), None, "no one waits");
        let waiter = lines.subscribe("a");
        lines.granted("a", fence(3));
        let entry = lines.entry("a").unwrap();
        assert_eq!((entry.place, entry.granted), (None, fence(3)));
        assert!(is_woken(&mut lines, Turn::Behind), "it has not entered yet");
        lines.entered("a", &entry, 7);
        assert!(!is_woken(&mut lines, Turn::Behind));
        assert_eq!(lines.entry("a").unwrap().place, Some(7));
        drop(waiter);
        assert_eq!(lines.entry("a"), None, "it has left");
    }

    #[test]
    fn a_waiter_whose_turn_may_have_been_lost_enters_again() {
        let mut lines = Lines::default();
        let _waiter = in_line(&mut lines);
        lines.set_place("a", 7);
        lines.set_none_in_line();
        assert!(is_woken(&mut lines, Turn::Behind));
        assert_eq!(place_to_enter(&mut lines, None), Some(Some(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_enters_the_line_again_in_time() {
        let mut lines = Lines::default();
        let _waiter = in_line(&mut lines);
        tokio::time::advance(MAX_AGE).await;
        assert!(!is_woken(&mut lines, Turn::Behind));
        assert_eq!(place_to_enter(&mut lines, None), Some(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_whose_entry_has_expired_is_woken_by_every_release() {
        let mut lines = Lines::default();
        let _waiter = in_line(&mut lines);
        tokio::time::advance(Turn::TIME_IN_LINE).await;
        assert!(is_woken(&mut lines, Turn::Behind));
    }

    #[test]
    fn a_line_in_which_no_one_waits_any_more_is_left() {
        let mut lines = Lines::default();
        let waiter = in_line(&mut lines);
        assert!(lines.sweep(Duration::ZERO).is_empty());
        drop(waiter);
        assert_eq!(lines.sweep(Duration::ZERO), ["a"]);
        drop(lines.subscribe("a"));
        assert!(lines.sweep(Duration::ZERO).is_empty(), "it was not in line");
    }
}
