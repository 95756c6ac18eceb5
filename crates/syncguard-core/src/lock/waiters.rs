//! The order of the waiters for one key. Pure: it calls no waker and drops no foreign value.

use std::{
    collections::BTreeMap,
    mem::take,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::{runtime::Id, time::Instant};

use super::{
    announcing::Announcing,
    contender::{Attempt, Candidate, Contender, Place, Subscription, Waiting},
    fairness::Fairness,
    turn::{Due, Turn},
    wakers::{Removed, Wakers},
    watchers::Watchers,
};
use crate::backend::Mode;

/// How many shared waiters may have an attempt in flight at once, the head included.
const MAX_ADMITTED: usize = 64;

/// The waiters for a key, and the state of the head, whose turn it is.
#[derive(Default)]
pub(super) struct Waiters {
    last_ticket: u64,
    head: Option<Contender>,
    /// The others, in their order.
    waiting: BTreeMap<Place, Waiting>,
    /// The shared waiters that make an attempt beside the head. They are no longer in the order
    /// until their attempt is refused.
    admitted: BTreeMap<Place, Contender>,
    /// The mode in which attempts were granted last, and how many since one was refused.
    grants: (Mode, usize),
    /// Counts the wake-ups of those that contend.
    wake_ups: u64,
    pub(super) watchers: Watchers,
    /// Whether, and why, the head is to make an attempt because of an event in this process.
    pub(super) attempt_due: Option<Due>,
    /// The subscription to releases by other processes, passed on from head to head.
    subscription: Option<Subscription>,
    /// The subscription that completed last, kept until the next one is active, so that a
    /// connection or a task that the backend uses for both does not end in between.
    completed_subscription: Option<Subscription>,
    /// The announcements of a head that is a writer, passed on to the next head if that is one too.
    announcing: Option<Announcing>,
    pub(super) fairness: Fairness,
}

impl Waiters {
    /// Returns the place of a waiter that arrives so long after the queues were created.
    pub(super) fn next_place(&mut self, age: Duration, priority: i32) -> Place {
        self.last_ticket += 1;
        Place::new(self.last_ticket, age, priority)
    }

    pub(super) fn is_head(&self, place: Place) -> bool {
        self.head.as_ref().is_some_and(|head| head.candidate.place == place)
    }

    /// Returns whether a waiter is queued behind the head.
    pub(super) fn has_others(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns whether a waiter with this turn may have to wait for others of this process to be
    /// polled.
    pub(super) fn depends_on_others(&self, turn: Turn) -> bool {
        match turn {
            Turn::Head => !self.admitted.is_empty(),
            Turn::Admitted => false,
            Turn::Waiting => true,
        }
    }

    /// Returns how many wait, the head and those with an attempt in flight included, and since when
    /// the one that arrived first.
    pub(super) fn summary(&self) -> (usize, Option<Instant>) {
        let contenders = self.head.iter().chain(self.admitted.values());
        let waiting = self.waiting.values().map(|waiting| waiting.candidate.arrived);
        let arrived = contenders.map(|contender| contender.candidate.arrived).chain(waiting);
        (arrived.clone().count(), arrived.min())
    }

    /// Returns where the attempt of a waiter is kept between two polls, if it contends.
    pub(super) fn attempt(&mut self, place: Place) -> Option<&mut Option<Attempt>> {
        self.contender(place).map(|contender| &mut contender.attempt)
    }

    fn contender(&mut self, place: Place) -> Option<&mut Contender> {
        match &mut self.head {
            Some(head) if head.candidate.place == place => Some(head),
            _ => self.admitted.get_mut(&place),
        }
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscription.is_some()
    }

    /// Returns where the subscription is kept, for the head.
    pub(super) fn subscription(&mut self, place: Place) -> Option<&mut Option<Subscription>> {
        self.is_head(place).then_some(&mut self.subscription)
    }

    /// Returns where the subscription that completed last is kept, for the head.
    pub(super) fn completed_subscription(
        &mut self,
        place: Place,
    ) -> Option<&mut Option<Subscription>> {
        self.is_head(place).then_some(&mut self.completed_subscription)
    }

    /// Returns where the announcements are kept, for the head.
    pub(super) fn announcing(&mut self, place: Place) -> Option<&mut Option<Announcing>> {
        self.is_head(place).then_some(&mut self.announcing)
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
        if let Some(admitted) = self.admitted.get_mut(&place) {
            admitted.polled(waker);
            return (Turn::Admitted, Wakers::default());
        }
        let mut wakers = Wakers::default();
        if self.head.is_none() {
            // No other waiter would take the turn: all of them are unresponsive.
            self.waiting.remove(&place);
            wakers.others = self.set_head(candidate, waker.clone());
            // Those that were admitted have a waiter again that may need the key.
            wakers.others.extend(self.take_watchers_if_overdue());
        }
        let is_preceded = self.is_preceded(place);
        match &mut self.head {
            Some(head) if head.candidate.place == place => {
                if head.attempt.is_some() || !is_preceded {
                    head.polled(waker);
                    return (Turn::Head, wakers);
                }
                self.head = None;
                let waker = waker.clone();
                let waiting =
                    Waiting { candidate, waker, is_admissible: false, unresponsive: false };
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
        let mut wakers = self.admit();
        if let Some(admitted) = self.admitted.get_mut(&place) {
            admitted.polled(waker);
            return (Turn::Admitted, Wakers::of(wakers));
        }
        wakers.extend(self.take_watchers_if_overdue());
        (Turn::Waiting, Wakers::of(wakers))
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
        self.head = Some(Contender::new(candidate, waker));
        self.attempt_due = Some(Due::Released);
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
                wakers.push(waiter.waker.clone());
                let mut admitted = Contender::new(waiter.candidate, waiter.waker);
                admitted.woken(&mut self.wake_ups);
                self.admitted.insert(place, admitted);
            }
        }
        if !wakers.is_empty() {
            wakers.extend(self.take_watchers_if_overdue());
        }
        wakers
    }

    /// Records that an attempt in shared mode was granted.
    pub(super) fn shared_granted(&mut self, mode: Mode) -> Wakers {
        let streak = if self.grants.0 == mode { self.grants.1.saturating_add(1) } else { 1 };
        self.grants = (mode, streak);
        Wakers::of(self.admit())
    }

    /// Records that an attempt in shared mode was not granted, and ends its admission.
    pub(super) fn shared_refused(&mut self, place: Place) {
        self.grants.1 = 0;
        self.admitted.remove(&place);
    }

    /// Records that the head was woken.
    pub(super) fn head_woken(&mut self) -> Wakers {
        let place = self.head.as_ref().map(|head| head.candidate.place);
        place.map_or_else(Wakers::default, |place| self.woken(place))
    }

    /// Records that a waiter was woken, if it contends.
    pub(super) fn woken(&mut self, place: Place) -> Wakers {
        let (mut wake_ups, mut wakers) = (self.wake_ups, Wakers::default());
        let Some(contender) = self.contender(place) else { return wakers };
        let first = contender.woken(&mut wake_ups);
        wakers.contender = Some(contender.waker.clone());
        if first {
            self.wake_ups = wake_ups;
            wakers.others.extend(self.take_watchers_if_overdue());
        }
        wakers
    }

    /// Notifies the head of an event in this process.
    pub(super) fn notify(&mut self, due: Due) -> Wakers {
        self.attempt_due = self.attempt_due.max(Some(due));
        self.fairness.released();
        self.head_woken()
    }

    /// Takes the wakers of the watchers that have to check those that contend, if one of them was
    /// woken and others wait.
    fn take_watchers_if_overdue(&mut self) -> Vec<Waker> {
        if self.is_overdue() { self.watchers.take_wakers() } else { Vec::new() }
    }

    /// Returns whether the head was woken and another waiter can take the turn, or one beside it
    /// was woken and may have been granted what another one waits for.
    fn is_overdue(&self) -> bool {
        let is_next = self.next().is_some();
        let is_woken = |contender: &Contender| contender.is_unpolled_since(self.wake_ups);
        is_next && self.head.as_ref().is_some_and(is_woken)
            || (is_next || self.head.is_some()) && self.admitted.values().any(is_woken)
    }

    /// Waits, for a watcher, until one that contends was woken and others wait for it. Returns the
    /// number of the last wake-up, or `None` when the queue is empty; the watcher is then no longer
    /// listed.
    pub(super) fn poll_overdue(&mut self, runtime: Id, waker: &Waker) -> Poll<Option<u64>> {
        if self.head.is_none() && self.waiting.is_empty() {
            self.watchers.remove(runtime);
            return Poll::Ready(None);
        }
        if self.is_overdue() {
            return Poll::Ready(Some(self.wake_ups));
        }
        self.watchers.wait(runtime, waker);
        Poll::Pending
    }

    /// Takes the turn from a head, and their admission from those beside it, that were woken by the
    /// wake-up of this number or an earlier one and not polled since, if others wait for them.
    /// Returns the attempts that they had in flight.
    pub(super) fn skip_unpolled(&mut self, wake_up: u64) -> (Vec<Attempt>, Wakers) {
        let mut attempts = Vec::new();
        let is_next = self.next().is_some();
        if is_next || self.head.is_some() {
            let unpolled = self.admitted.values().filter(|a| a.is_unpolled_since(wake_up));
            for place in unpolled.map(|a| a.candidate.place).collect::<Vec<_>>() {
                let admitted = self.admitted.remove(&place);
                attempts.extend(admitted.and_then(|admitted| self.set_aside(admitted, true)));
            }
        }
        let head = self.head.take_if(|head| is_next && head.is_unpolled_since(wake_up));
        let wakers = match head {
            Some(head) => {
                attempts.extend(self.set_aside(head, false));
                self.promote_next()
            }
            None => Wakers::of(self.admit()),
        };
        (attempts, wakers)
    }

    /// Lets one that contended wait in its place until it is polled again. Returns its attempt.
    fn set_aside(&mut self, contender: Contender, is_admissible: bool) -> Option<Attempt> {
        let Contender { candidate, waker, attempt, .. } = contender;
        let waiting = Waiting { candidate, waker, is_admissible, unresponsive: true };
        self.waiting.insert(candidate.place, waiting);
        attempt
    }

    /// Removes a waiter. Returns the state that is removed with it.
    pub(super) fn remove(&mut self, place: Place) -> (Removed, Wakers) {
        let mut removed = Removed::default();
        let wakers = if self.is_head(place) {
            removed.attempt = self.head.take().and_then(|head| head.attempt);
            self.promote_next()
        } else if let Some(admitted) = self.admitted.remove(&place) {
            removed.attempt = admitted.attempt;
            Wakers::of(self.admit())
        } else {
            self.waiting.remove(&place);
            let mut wakers = self.take_watchers_if_empty();
            // It may have been what the next ones were not to overtake.
            wakers.extend(self.admit());
            Wakers::of(wakers)
        };
        if self.head.is_none() && self.waiting.is_empty() {
            self.fairness.waits_ended();
            removed.subscriptions = [self.subscription.take(), self.completed_subscription.take()];
        }
        (removed, wakers)
    }

    /// Passes the turn to the first waiter that is not unresponsive.
    ///
    /// An announcement stays for a head that is a writer too. It would keep out any other, and no
    /// one renews it.
    fn promote_next(&mut self) -> Wakers {
        let mut wakers = match self.next().and_then(|place| self.waiting.remove(&place)) {
            Some(Waiting { candidate, waker, .. }) => {
                let admitted = self.set_head(candidate, waker);
                let mut wakers = self.head_woken();
                wakers.others.extend(admitted);
                wakers
            }
            None => Wakers::of(self.take_watchers_if_empty()),
        };
        let mode = self.head.as_ref().map(|head| head.candidate.mode);
        if mode != Some(Mode::Exclusive) {
            wakers.announcing = self.announcing.take();
        }
        wakers
    }

    /// Takes the wakers of all watchers if the queue has become empty: they end with it.
    fn take_watchers_if_empty(&mut self) -> Vec<Waker> {
        match self.head.is_none() && self.waiting.is_empty() {
            true => self.watchers.take_wakers(),
            false => Vec::new(),
        }
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

    use super::{Candidate, MAX_ADMITTED, Turn, Waiters};
    use crate::{backend::Mode, lock::contender::PRIORITY_LEVEL};

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
        let skipped = |waiters: &mut Waiters, wake_up| {
            waiters.skip_unpolled(wake_up).1.wake();
            waiters.is_head(next.place)
        };
        let wake_up = waiters.wake_ups;
        assert!(!skipped(&mut waiters, wake_up), "it was not woken");
        waiters.head_woken().wake();
        let wake_up = waiters.wake_ups;
        assert!(poll(&mut waiters, head));
        assert!(!skipped(&mut waiters, wake_up), "it was polled since");
        waiters.head_woken().wake();
        assert!(!skipped(&mut waiters, wake_up), "it was polled since, and woken again");
        waiters.head_woken().wake();
        let wake_up = waiters.wake_ups;
        assert!(skipped(&mut waiters, wake_up));
        assert!(!poll(&mut waiters, head));
    }

    #[test]
    fn a_new_head_has_its_own_time_until_the_turn_is_taken_from_it() {
        let (mut waiters, head, next) = pair();
        let last = writer(&mut waiters);
        assert!(!poll(&mut waiters, last));
        waiters.head_woken().wake();
        let wake_up = waiters.wake_ups;
        waiters.remove(head.place).1.wake();
        waiters.skip_unpolled(wake_up).1.wake();
        assert!(waiters.is_head(next.place));
    }

    #[test]
    fn a_runtime_whose_watcher_has_ended_is_watched_again_and_other_runtimes_stay_watched() {
        let (mut waiters, head, next) = pair();
        let [(_first, first), (_second, second)] = runtimes();
        assert!(waiters.watchers.add(first) && waiters.watchers.add(second));
        let (calls, waker) = waker();
        assert!(waiters.poll_overdue(second, &waker).is_pending());
        assert!(waiters.poll_overdue(first, Waker::noop()).is_pending());
        waiters.watchers.remove(second).unwrap().wake();
        assert_eq!(calls.count(), 1, "the waker of this watcher is returned");
        assert!(!waiters.watchers.add(first));
        assert!(waiters.watchers.add(second));
        drop((waiters.remove(head.place), waiters.remove(next.place)));
        assert_eq!(waiters.poll_overdue(first, Waker::noop()), Poll::Ready(None));
        assert!(waiters.watchers.add(first) && !waiters.watchers.add(second));
    }

    #[test]
    fn watchers_end_when_the_last_waiter_leaves_and_not_before() {
        let (mut waiters, head, next) = pair();
        let [(_first, first), _] = runtimes();
        assert!(waiters.watchers.add(first));
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

    /// Counts the readers that may make an attempt beside the head.
    fn admitted(waiters: &mut Waiters, readers: &[Candidate]) -> usize {
        let turns = readers.iter().map(|reader| turn(waiters, *reader));
        turns.filter(|turn| *turn == Turn::Admitted).count()
    }

    #[test]
    fn a_reader_that_was_admitted_and_is_not_polled_makes_room_for_the_next() {
        let (mut waiters, readers) = readers(1, 2);
        let late = reader(&mut waiters);
        assert_eq!(turn(&mut waiters, readers[1]), Turn::Admitted);
        assert_eq!(turn(&mut waiters, late), Turn::Waiting);
        let wake_up = waiters.wake_ups;
        waiters.skip_unpolled(wake_up).1.wake();
        assert_eq!(turn(&mut waiters, readers[1]), Turn::Admitted, "it was polled");
        waiters.woken(readers[1].place).wake();
        let wake_up = waiters.wake_ups;
        waiters.skip_unpolled(wake_up).1.wake();
        assert_eq!(waiters.summary().0, 3, "it still waits");
        assert_eq!(admitted(&mut waiters, &[late, readers[1]]), 1, "there is room for one");
        // It has lost its turn, and not its place.
        waiters.shared_refused(late.place);
        assert_eq!(turn(&mut waiters, late), Turn::Waiting);
        waiters.remove(readers[0].place).1.wake();
        assert!(waiters.is_head(readers[1].place));
    }

    #[test]
    fn a_reader_that_was_admitted_and_woken_is_overdue_once_another_waiter_needs_the_key() {
        let (mut waiters, readers) = readers(1, 2);
        assert_eq!(turn(&mut waiters, readers[1]), Turn::Admitted);
        waiters.remove(readers[0].place).1.wake();
        waiters.woken(readers[1].place).wake();
        assert!(!waiters.is_overdue());
        let writer = writer(&mut waiters);
        assert_eq!(turn(&mut waiters, writer), Turn::Head);
        assert!(waiters.is_overdue() && waiters.depends_on_others(Turn::Head));
        assert_eq!(turn(&mut waiters, readers[1]), Turn::Admitted);
        assert!(!waiters.is_overdue(), "it was polled");
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
