//! The order of the waiters for one key. Pure: it calls no waker and drops no foreign value.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    mem::take,
    pin::Pin,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::{runtime::Id, time::Instant};

use super::{attempt::AttemptOutcome, fairness::Fairness};
use crate::{
    Error,
    backend::{Detached, Mode},
};

pub(super) type Attempt = Detached<Result<AttemptOutcome, Error>>;

pub(super) type Subscription = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many shared waiters may have an attempt in flight at once, the head included.
const MAX_ADMITTED: usize = 64;

/// One level of priority counts as much as this time in the queue.
const PRIORITY_LEVEL: Duration = Duration::from_secs(1);

/// The place of a waiter in the queue: the earlier it arrived and the higher its priority, the
/// further ahead it is.
///
/// A level of priority puts a waiter [`PRIORITY_LEVEL`] ahead of its arrival. So the order of two
/// waiters never changes, and none starves: those that arrive later by more than their advantage
/// are behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// In microseconds.
    order: i64,
    /// Decides among those that arrived at the same instant, and identifies the waiter.
    ticket: u64,
}

/// A waiter as it presents itself to the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) mode: Mode,
    pub(super) arrived: Instant,
}

/// What a waiter may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the head, and contends.
    Head,
    /// It may make one attempt beside the head.
    Admitted,
    /// It waits.
    Waiting,
}

/// The waiters for a key, and the state of the head, whose turn it is.
#[derive(Default)]
pub(super) struct Waiters {
    last_ticket: u64,
    head: Option<Head>,
    /// The others, in their order.
    waiting: BTreeMap<Place, Waiting>,
    /// The shared waiters that make an attempt beside the head. They are no longer in the order
    /// until their attempt is refused.
    admitted: BTreeSet<Place>,
    /// The mode in which attempts were granted last, and how many since one was refused.
    grants: (Mode, usize),
    /// Counts the polls of heads.
    polls: u64,
    watchers: Vec<(Id, Option<Waker>)>,
    /// Whether the head is to make an attempt because of an event in this process.
    pub(super) attempt_due: bool,
    /// The subscription to releases by other processes, passed on from head to head.
    pub(super) subscription: Option<Subscription>,
    /// The subscription that completed last, kept until the next one is active, so that a
    /// connection or a task that the backend uses for both does not end in between.
    pub(super) completed_subscription: Option<Subscription>,
    /// The attempt of the head, between two polls.
    pub(super) attempt: Option<Attempt>,
    pub(super) fairness: Fairness,
}

struct Head {
    candidate: Candidate,
    waker: Waker,
    /// Whether it was woken and has not been polled since.
    woken: bool,
}

struct Waiting {
    candidate: Candidate,
    waker: Waker,
    /// Whether it has not been the head yet. One that was has begun to contend as such.
    is_admissible: bool,
    /// Whether it was the head and was not polled in time; it is skipped until it is polled again.
    unresponsive: bool,
}

/// Wakers to be called once the waiters are unlocked.
#[derive(Default)]
#[must_use = "a waiter that is not woken waits for ever"]
pub(super) struct Wakers {
    head: Option<Waker>,
    others: Vec<Waker>,
}

/// The state that is removed with a waiter. Dropping it runs backend code.
#[derive(Default)]
pub(super) struct Removed {
    attempt: Option<Attempt>,
    subscriptions: [Option<Subscription>; 2],
}

impl Wakers {
    pub(super) fn wake(self) {
        self.head.into_iter().chain(self.others).for_each(Waker::wake);
    }
}

impl Waiters {
    /// Returns the place of a waiter that arrives so long after the queues were created.
    pub(super) fn next_place(&mut self, age: Duration, priority: i32) -> Place {
        self.last_ticket += 1;
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let level = i64::try_from(PRIORITY_LEVEL.as_micros()).unwrap_or(i64::MAX);
        let advantage = level.saturating_mul(priority.into());
        Place { order: age.saturating_sub(advantage), ticket: self.last_ticket }
    }

    pub(super) fn is_head(&self, place: Place) -> bool {
        self.head.as_ref().is_some_and(|head| head.candidate.place == place)
    }

    /// Returns whether a waiter is queued behind the head.
    pub(super) fn has_others(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns how many wait, the head and those with an attempt in flight included, and since when
    /// the one that arrived first.
    pub(super) fn summary(&self) -> (usize, Option<Instant>) {
        let head = self.head.iter().map(|head| head.candidate.arrived);
        let waiting = self.waiting.values().map(|waiting| waiting.candidate.arrived);
        let count = usize::from(self.head.is_some()) + self.waiting.len() + self.admitted.len();
        (count, head.chain(waiting).min())
    }

    /// Records a poll, and returns what the waiter may do.
    ///
    /// A head that is woken yields to a waiter that is ahead of it, unless its attempt is in flight:
    /// that attempt may be the one that is granted. The subscription stays with the queue, and the
    /// new head begins with an attempt, so the wake-up is not lost with the turn.
    pub(super) fn poll_turn(
        &mut self,
        candidate: Candidate,
        is_admissible: bool,
        waker: &Waker,
    ) -> (Turn, Wakers) {
        let place = candidate.place;
        if self.admitted.contains(&place) {
            return (Turn::Admitted, Wakers::default());
        }
        let mut wakers = Wakers::default();
        if self.head.is_none() {
            // No other waiter would take the turn: all of them are unresponsive.
            self.waiting.remove(&place);
            wakers.others = self.set_head(candidate, waker.clone());
        }
        let yields = self.attempt.is_none() && self.is_preceded(place);
        match &mut self.head {
            Some(head) if head.candidate.place == place && !yields => {
                self.polls += 1;
                head.woken = false;
                head.waker.clone_from(waker);
                (Turn::Head, wakers)
            }
            Some(head) if head.candidate.place == place => {
                self.head = None;
                let waiting = Waiting {
                    candidate,
                    waker: waker.clone(),
                    is_admissible: false,
                    unresponsive: false,
                };
                self.waiting.insert(place, waiting);
                (Turn::Waiting, self.promote_next())
            }
            _ => self.poll_waiting(candidate, is_admissible, waker),
        }
    }

    fn poll_waiting(
        &mut self,
        candidate: Candidate,
        is_admissible: bool,
        waker: &Waker,
    ) -> (Turn, Wakers) {
        let place = candidate.place;
        let available = match self.waiting.get_mut(&place) {
            Some(waiter) => {
                waiter.waker.clone_from(waker);
                take(&mut waiter.unresponsive)
            }
            None => {
                let waker = waker.clone();
                let waiter = Waiting { candidate, waker, is_admissible, unresponsive: false };
                self.waiting.insert(place, waiter);
                true
            }
        };
        if !available {
            return (Turn::Waiting, Wakers::default());
        }
        // There is one more waiter that can take the turn, or make an attempt beside the head.
        let admitted = self.admit();
        if self.admitted.contains(&place) {
            return (Turn::Admitted, Wakers { head: None, others: admitted });
        }
        let mut others = self.take_watchers_if_overdue();
        others.extend(admitted);
        (Turn::Waiting, Wakers { head: None, others })
    }

    /// Returns whether a waiter that can take the turn is ahead of `place`.
    fn is_preceded(&self, place: Place) -> bool {
        self.next().is_some_and(|next| next < place)
    }

    /// Returns the first waiter that is not unresponsive.
    fn next(&self) -> Option<Place> {
        let mut waiting = self.waiting.iter();
        waiting.find(|(_, waiter)| !waiter.unresponsive).map(|(place, _)| *place)
    }

    /// Makes a waiter the head. A new head always begins with an attempt, whatever it waited for
    /// when it was the head before. Returns the wakers of those that enter with it.
    fn set_head(&mut self, candidate: Candidate, waker: Waker) -> Vec<Waker> {
        self.head = Some(Head { candidate, waker, woken: false });
        self.attempt_due = true;
        self.admit()
    }

    /// Admits the shared waiters next in the order to an attempt beside a head of the same mode.
    ///
    /// Their number follows what the store has granted: after each grant one more, so that it
    /// doubles while all are granted; after a refusal none. So readers enter together, while a key
    /// that is not free costs no more requests than the head's.
    ///
    /// **Invariant:** no one is admitted past a waiter of another mode, so a writer is not overtaken.
    fn admit(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let (mode, streak) = self.grants;
        let head = self.head.as_ref().map(|head| head.candidate.mode);
        if head != Some(mode) || !mode.is_shared() {
            return wakers;
        }
        while self.admitted.len() + 1 < streak.min(MAX_ADMITTED) {
            let Some(place) = self.next() else { break };
            let admissible =
                |waiter: &Waiting| waiter.candidate.mode == mode && waiter.is_admissible;
            if !self.waiting.get(&place).is_some_and(admissible) {
                break;
            }
            if let Some(waiter) = self.waiting.remove(&place) {
                self.admitted.insert(place);
                wakers.push(waiter.waker);
            }
        }
        wakers
    }

    /// Records that an attempt in shared mode was granted.
    pub(super) fn shared_granted(&mut self, mode: Mode) -> Wakers {
        let streak = if self.grants.0 == mode { self.grants.1.saturating_add(1) } else { 1 };
        self.grants = (mode, streak);
        Wakers { head: None, others: self.admit() }
    }

    /// Records that an attempt in shared mode was not granted, and ends its admission.
    pub(super) fn shared_refused(&mut self, place: Place) {
        self.grants.1 = 0;
        self.admitted.remove(&place);
    }

    /// Records that the head was woken.
    pub(super) fn head_woken(&mut self) -> Wakers {
        let Some(head) = &mut self.head else { return Wakers::default() };
        let first = !std::mem::replace(&mut head.woken, true);
        let head = Some(head.waker.clone());
        Wakers { head, others: if first { self.take_watchers_if_overdue() } else { Vec::new() } }
    }

    /// Records that a lock of this process was released.
    pub(super) fn notify_released(&mut self) -> Wakers {
        self.attempt_due = true;
        self.fairness.released();
        self.head_woken()
    }

    /// Takes the wakers of the watchers that have to check the head, if it was woken and another
    /// waiter can take the turn.
    fn take_watchers_if_overdue(&mut self) -> Vec<Waker> {
        match self.is_overdue() {
            true => self.watchers.iter_mut().filter_map(|(_, waker)| waker.take()).collect(),
            false => Vec::new(),
        }
    }

    fn is_overdue(&self) -> bool {
        let woken = self.head.as_ref().is_some_and(|head| head.woken);
        woken && self.next().is_some()
    }

    /// Waits, for a watcher, until the head was woken and another waiter can take the turn. Returns
    /// the count of polls, or `None` when the queue is empty; the watcher is then no longer listed.
    pub(super) fn poll_overdue(&mut self, runtime: Id, waker: &Waker) -> Poll<Option<u64>> {
        if self.head.is_none() && self.waiting.is_empty() {
            self.remove_watcher(runtime);
            return Poll::Ready(None);
        }
        if self.is_overdue() {
            return Poll::Ready(Some(self.polls));
        }
        let own = self.watchers.iter_mut().find(|(id, _)| *id == runtime);
        if let Some((_, slot)) = own {
            *slot = Some(waker.clone());
        }
        Poll::Pending
    }

    /// Lists a watcher for a runtime. Returns false if the runtime already has one.
    pub(super) fn add_watcher(&mut self, runtime: Id) -> bool {
        let unwatched = self.watchers.iter().all(|(id, _)| *id != runtime);
        if unwatched {
            self.watchers.push((runtime, None));
        }
        unwatched
    }

    pub(super) fn remove_watcher(&mut self, runtime: Id) -> Option<Waker> {
        let index = self.watchers.iter().position(|(id, _)| *id == runtime)?;
        self.watchers.swap_remove(index).1
    }

    /// Takes the turn from a head that was woken and not polled since the count was `polls`.
    pub(super) fn skip_head(&mut self, polls: u64) -> Option<(Option<Attempt>, Wakers)> {
        if self.polls != polls || !self.is_overdue() {
            return None;
        }
        let Head { candidate, waker, .. } = self.head.take()?;
        let waiting = Waiting { candidate, waker, is_admissible: false, unresponsive: true };
        self.waiting.insert(candidate.place, waiting);
        Some((self.attempt.take(), self.promote_next()))
    }

    /// Removes a waiter. Returns the state that is removed with it.
    pub(super) fn remove(&mut self, place: Place) -> (Removed, Wakers) {
        let mut removed = Removed::default();
        let wakers = if self.is_head(place) {
            self.head = None;
            removed.attempt = self.attempt.take();
            self.promote_next()
        } else if self.admitted.remove(&place) {
            Wakers { head: None, others: self.admit() }
        } else {
            self.waiting.remove(&place);
            let mut wakers = self.take_watchers_if_empty();
            // It may have been what the next ones were not to overtake.
            wakers.others.extend(self.admit());
            wakers
        };
        if self.head.is_none() && self.waiting.is_empty() {
            removed.subscriptions = [self.subscription.take(), self.completed_subscription.take()];
        }
        (removed, wakers)
    }

    /// Passes the turn to the first waiter that is not unresponsive.
    fn promote_next(&mut self) -> Wakers {
        let Some(place) = self.next() else {
            return self.take_watchers_if_empty();
        };
        let mut admitted = Vec::new();
        if let Some(waiter) = self.waiting.remove(&place) {
            admitted = self.set_head(waiter.candidate, waiter.waker);
        }
        let mut wakers = self.head_woken();
        wakers.others.extend(admitted);
        wakers
    }

    /// Takes the wakers of all watchers if the queue has become empty: they end with it.
    fn take_watchers_if_empty(&mut self) -> Wakers {
        let empty = self.head.is_none() && self.waiting.is_empty();
        let watchers = self.watchers.iter_mut().filter(|_| empty);
        Wakers { head: None, others: watchers.filter_map(|(_, waker)| waker.take()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Poll, Wake, Waker},
        time::Duration,
    };

    use tokio::{
        runtime::{Builder, Id, Runtime},
        time::Instant,
    };

    use super::{Candidate, MAX_ADMITTED, PRIORITY_LEVEL, Turn, Waiters};
    use crate::backend::Mode;

    /// Counts its calls.
    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Calls {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn waker() -> (Arc<Calls>, Waker) {
        let calls = Arc::<Calls>::default();
        (calls.clone(), Waker::from(calls))
    }

    fn turn(waiters: &mut Waiters, candidate: Candidate) -> Turn {
        let (turn, wakers) = waiters.poll_turn(candidate, true, Waker::noop());
        wakers.wake();
        turn
    }

    /// Polls a waiter, and returns whether it is the head.
    fn poll(waiters: &mut Waiters, candidate: Candidate) -> bool {
        turn(waiters, candidate) == Turn::Head
    }

    /// A waiter that arrives `age` after the first, with this mode and priority.
    fn arrive(waiters: &mut Waiters, age: Duration, mode: Mode, priority: i32) -> Candidate {
        let place = waiters.next_place(age, priority);
        Candidate { place, mode, arrived: Instant::now() }
    }

    fn writer(waiters: &mut Waiters) -> Candidate {
        arrive(waiters, Duration::ZERO, Mode::Exclusive, 0)
    }

    fn reader(waiters: &mut Waiters) -> Candidate {
        arrive(waiters, Duration::ZERO, Mode::SHARED, 0)
    }

    /// A head, and a waiter behind it.
    fn pair() -> (Waiters, Candidate, Candidate) {
        let mut waiters = Waiters::default();
        let (head, next) = (writer(&mut waiters), writer(&mut waiters));
        assert!(poll(&mut waiters, head) && !poll(&mut waiters, next));
        (waiters, head, next)
    }

    fn runtimes() -> [(Runtime, Id); 2] {
        [(); 2].map(|()| {
            let runtime = Builder::new_current_thread().build().unwrap();
            let id = runtime.handle().id();
            (runtime, id)
        })
    }

    #[test]
    fn the_turn_is_taken_only_from_a_head_that_was_woken_and_has_not_been_polled_since() {
        let (mut waiters, head, next) = pair();
        assert!(waiters.skip_head(waiters.polls).is_none(), "it was not woken");
        waiters.head_woken().wake();
        let polls = waiters.polls;
        assert!(poll(&mut waiters, head));
        assert!(waiters.skip_head(polls).is_none(), "it was polled since");
        waiters.head_woken().wake();
        assert!(waiters.skip_head(polls).is_none(), "it was polled since, and woken again");
        assert!(waiters.skip_head(waiters.polls).is_some() && waiters.is_head(next.place));
        assert!(!poll(&mut waiters, head));
    }

    #[test]
    fn a_runtime_whose_watcher_has_ended_is_watched_again_and_other_runtimes_stay_watched() {
        let (mut waiters, head, next) = pair();
        let [(_first, first), (_second, second)] = runtimes();
        assert!(waiters.add_watcher(first) && waiters.add_watcher(second));
        let (calls, waker) = waker();
        assert!(waiters.poll_overdue(second, &waker).is_pending());
        assert!(waiters.poll_overdue(first, Waker::noop()).is_pending());
        waiters.remove_watcher(second).unwrap().wake();
        assert_eq!(calls.count(), 1, "the waker of this watcher is returned");
        assert!(!waiters.add_watcher(first));
        assert!(waiters.add_watcher(second));
        drop((waiters.remove(head.place), waiters.remove(next.place)));
        assert_eq!(waiters.poll_overdue(first, Waker::noop()), Poll::Ready(None));
        assert!(waiters.add_watcher(first) && !waiters.add_watcher(second));
    }

    #[test]
    fn watchers_end_when_the_last_waiter_leaves_and_not_before() {
        let (mut waiters, head, next) = pair();
        let [(_first, first), _] = runtimes();
        assert!(waiters.add_watcher(first));
        let (calls, waker) = waker();
        assert!(waiters.poll_overdue(first, &waker).is_pending());
        waiters.remove(next.place).1.wake();
        assert_eq!(calls.count(), 0);
        assert!(waiters.poll_overdue(first, &waker).is_pending(), "another waiter may join");
        waiters.remove(head.place).1.wake();
        assert_eq!(calls.count(), 1);
    }

    #[test]
    fn subscriptions_are_kept_until_the_last_waiter_leaves() {
        let (mut waiters, head, next) = pair();
        let third = writer(&mut waiters);
        assert!(!poll(&mut waiters, third));
        waiters.subscription = Some(Box::pin(pending()));
        waiters.completed_subscription = Some(Box::pin(pending()));
        for waiter in [head, third, next] {
            assert!(waiters.subscription.is_some() && waiters.completed_subscription.is_some());
            let (removed, wakers) = waiters.remove(waiter.place);
            wakers.wake();
            let taken = removed.subscriptions.iter().flatten().count();
            assert_eq!(taken, if waiter.place == next.place { 2 } else { 0 });
        }
    }

    #[test]
    fn a_level_of_priority_counts_as_a_second_of_waiting() {
        let mut waiters = Waiters::default();
        let just = Duration::from_micros(1);
        let head = writer(&mut waiters);
        let early = arrive(&mut waiters, Duration::ZERO, Mode::Exclusive, 0);
        let late = arrive(&mut waiters, PRIORITY_LEVEL * 3 - just, Mode::Exclusive, 3);
        let later = arrive(&mut waiters, PRIORITY_LEVEL * 3, Mode::Exclusive, 3);
        let low = arrive(&mut waiters, Duration::ZERO, Mode::Exclusive, -1);
        assert!(poll(&mut waiters, head));
        for waiter in [early, late, later, low] {
            poll(&mut waiters, waiter);
        }
        assert!(!poll(&mut waiters, head), "the head yields to one that is ahead of it");
        let order = [late, head, early, later, low];
        for waiter in order {
            assert!(waiters.is_head(waiter.place));
            waiters.remove(waiter.place).1.wake();
        }
    }

    #[test]
    fn waiters_of_one_priority_are_served_in_the_order_of_their_arrival() {
        let mut waiters = Waiters::default();
        let order: Vec<_> =
            (0..9).map(|_| arrive(&mut waiters, Duration::ZERO, Mode::Exclusive, 7)).collect();
        for waiter in &order {
            poll(&mut waiters, *waiter);
        }
        for waiter in order {
            assert!(waiters.is_head(waiter.place));
            waiters.remove(waiter.place).1.wake();
        }
    }

    /// A head and `count` more readers, all polled, after `grants` grants.
    fn readers(count: usize, grants: usize) -> (Waiters, Vec<Candidate>) {
        let mut waiters = Waiters::default();
        for _ in 0..grants {
            waiters.shared_granted(Mode::SHARED).wake();
        }
        let readers: Vec<_> = (0..=count).map(|_| reader(&mut waiters)).collect();
        for reader in &readers {
            turn(&mut waiters, *reader);
        }
        (waiters, readers)
    }

    #[test]
    fn as_many_readers_attempt_at_once_as_were_granted_in_a_row() {
        for (grants, at_once) in [(0, 1), (1, 1), (2, 2), (5, 5), (500, MAX_ADMITTED)] {
            let (mut waiters, readers) = readers(99, grants);
            let turns = readers.iter().map(|reader| turn(&mut waiters, *reader));
            let attempting = turns.filter(|turn| *turn != Turn::Waiting).count();
            assert_eq!(attempting, at_once, "after {grants} grants");
        }
    }

    #[test]
    fn after_a_refusal_only_the_head_attempts() {
        let (mut waiters, readers) = readers(9, 5);
        assert_eq!(turn(&mut waiters, readers[4]), Turn::Admitted);
        for reader in &readers[1..5] {
            waiters.shared_refused(reader.place);
        }
        for reader in &readers[1..] {
            assert_eq!(turn(&mut waiters, *reader), Turn::Waiting);
        }
        assert_eq!(turn(&mut waiters, readers[0]), Turn::Head);
        waiters.remove(readers[0].place).1.wake();
        assert!(waiters.is_head(readers[1].place), "it kept its place");
    }

    #[test]
    fn no_reader_is_admitted_past_a_writer() {
        let (mut waiters, readers) = readers(1, 9);
        let writer = writer(&mut waiters);
        assert_eq!(turn(&mut waiters, writer), Turn::Waiting);
        let late = reader(&mut waiters);
        assert_eq!(turn(&mut waiters, late), Turn::Waiting);
        for reader in readers {
            waiters.remove(reader.place).1.wake();
        }
        assert!(waiters.is_head(writer.place));
        assert_eq!(turn(&mut waiters, late), Turn::Waiting, "the head is a writer");
        waiters.remove(writer.place).1.wake();
        assert!(waiters.is_head(late.place));
    }

    #[test]
    fn readers_behind_a_writer_that_leaves_are_admitted() {
        let (mut waiters, _readers) = readers(0, 9);
        let (writer, late) = (writer(&mut waiters), reader(&mut waiters));
        assert_eq!(turn(&mut waiters, writer), Turn::Waiting);
        assert_eq!(turn(&mut waiters, late), Turn::Waiting);
        waiters.remove(writer.place).1.wake();
        assert_eq!(turn(&mut waiters, late), Turn::Admitted);
    }
}
