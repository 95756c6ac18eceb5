//! The order of the waiters for one key. Pure: it calls no waker and drops no foreign value.

use std::{
    collections::BTreeMap,
    future::Future,
    mem::take,
    pin::Pin,
    task::{Poll, Waker},
};

use tokio::runtime::Id;

use super::{attempt::AttemptOutcome, fairness::Fairness};
use crate::{Error, backend::Detached};

pub(super) type Attempt = Detached<Result<AttemptOutcome, Error>>;

pub(super) type Subscription = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The waiters for a key, and the state of the head, whose turn it is.
#[derive(Default)]
pub(super) struct Waiters {
    last_ticket: u64,
    head: Option<Head>,
    /// The others, by ticket: first come, first served.
    waiting: BTreeMap<u64, Waiting>,
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
    ticket: u64,
    waker: Waker,
    /// Whether it was woken and has not been polled since.
    woken: bool,
}

struct Waiting {
    waker: Waker,
    /// Whether it was the head and was not polled in time; it is skipped until it is polled again.
    unresponsive: bool,
}

/// Wakers to be called once the waiters are unlocked.
#[derive(Default)]
#[must_use = "a waiter that is not woken waits for ever"]
pub(super) struct Wakers {
    head: Option<Waker>,
    watchers: Vec<Waker>,
}

/// The state that is removed with a waiter. Dropping it runs backend code.
#[derive(Default)]
pub(super) struct Removed {
    attempt: Option<Attempt>,
    subscriptions: [Option<Subscription>; 2],
}

impl Wakers {
    pub(super) fn wake(self) {
        self.head.into_iter().chain(self.watchers).for_each(Waker::wake);
    }
}

impl Waiters {
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    pub(super) fn is_head(&self, ticket: u64) -> bool {
        self.head.as_ref().is_some_and(|head| head.ticket == ticket)
    }

    /// Returns whether a waiter is queued behind the head.
    pub(super) fn has_others(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Records a poll. Returns `Ok` for the waiter whose turn it is; the others wait.
    pub(super) fn poll_turn(&mut self, ticket: u64, waker: &Waker) -> Result<(), Wakers> {
        if self.head.is_none() {
            // No other waiter would take the turn: all of them are unresponsive.
            self.waiting.remove(&ticket);
            self.set_head(ticket, waker.clone());
        }
        match &mut self.head {
            Some(head) if head.ticket == ticket => {
                self.polls += 1;
                head.woken = false;
                head.waker.clone_from(waker);
                Ok(())
            }
            _ => Err(self.poll_waiting(ticket, waker)),
        }
    }

    fn poll_waiting(&mut self, ticket: u64, waker: &Waker) -> Wakers {
        let available = match self.waiting.get_mut(&ticket) {
            Some(waiter) => {
                waiter.waker.clone_from(waker);
                take(&mut waiter.unresponsive)
            }
            None => {
                self.waiting.insert(ticket, Waiting { waker: waker.clone(), unresponsive: false });
                true
            }
        };
        // There is one more waiter that can take the turn.
        let watchers = if available { self.take_watchers_if_overdue() } else { Vec::new() };
        Wakers { head: None, watchers }
    }

    /// Makes a waiter the head. A new head always begins with an attempt, whatever it waited for
    /// when it was the head before.
    fn set_head(&mut self, ticket: u64, waker: Waker) {
        self.head = Some(Head { ticket, waker, woken: false });
        self.attempt_due = true;
    }

    /// Records that the head was woken.
    pub(super) fn head_woken(&mut self) -> Wakers {
        let Some(head) = &mut self.head else { return Wakers::default() };
        let first = !std::mem::replace(&mut head.woken, true);
        let head = Some(head.waker.clone());
        Wakers { head, watchers: if first { self.take_watchers_if_overdue() } else { Vec::new() } }
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
        woken && self.waiting.values().any(|waiter| !waiter.unresponsive)
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
        let Head { ticket, waker, .. } = self.head.take()?;
        self.waiting.insert(ticket, Waiting { waker, unresponsive: true });
        Some((self.attempt.take(), self.promote_next()))
    }

    /// Removes a waiter. Returns the state that is removed with it.
    pub(super) fn remove(&mut self, ticket: u64) -> (Removed, Wakers) {
        let mut removed = Removed::default();
        let wakers = if self.is_head(ticket) {
            self.head = None;
            removed.attempt = self.attempt.take();
            self.promote_next()
        } else {
            self.waiting.remove(&ticket);
            self.take_watchers_if_empty()
        };
        if self.head.is_none() && self.waiting.is_empty() {
            removed.subscriptions = [self.subscription.take(), self.completed_subscription.take()];
        }
        (removed, wakers)
    }

    /// Passes the turn to the first waiter that is not unresponsive.
    fn promote_next(&mut self) -> Wakers {
        let next = self.waiting.iter().find(|(_, waiter)| !waiter.unresponsive);
        let Some(ticket) = next.map(|(ticket, _)| *ticket) else {
            return self.take_watchers_if_empty();
        };
        if let Some(waiter) = self.waiting.remove(&ticket) {
            self.set_head(ticket, waiter.waker);
        }
        self.head_woken()
    }

    /// Takes the wakers of all watchers if the queue has become empty: they end with it.
    fn take_watchers_if_empty(&mut self) -> Wakers {
        let empty = self.head.is_none() && self.waiting.is_empty();
        let watchers = self.watchers.iter_mut().filter(|_| empty);
        Wakers { head: None, watchers: watchers.filter_map(|(_, waker)| waker.take()).collect() }
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
    };

    use tokio::runtime::{Builder, Id, Runtime};

    use super::Waiters;

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

    /// Polls a waiter, and returns whether it is the head.
    fn poll(waiters: &mut Waiters, ticket: u64) -> bool {
        waiters.poll_turn(ticket, Waker::noop()).map_err(|wakers| wakers.wake()).is_ok()
    }

    /// A head, and a waiter behind it.
    fn pair() -> (Waiters, u64, u64) {
        let mut waiters = Waiters::default();
        let (head, next) = (waiters.next_ticket(), waiters.next_ticket());
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
        assert!(waiters.skip_head(waiters.polls).is_some() && waiters.is_head(next));
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
        drop((waiters.remove(head), waiters.remove(next)));
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
        waiters.remove(next).1.wake();
        assert_eq!(calls.count(), 0);
        assert!(waiters.poll_overdue(first, &waker).is_pending(), "another waiter may join");
        waiters.remove(head).1.wake();
        assert_eq!(calls.count(), 1);
    }

    #[test]
    fn subscriptions_are_kept_until_the_last_waiter_leaves() {
        let (mut waiters, head, next) = pair();
        let third = waiters.next_ticket();
        assert!(!poll(&mut waiters, third));
        waiters.subscription = Some(Box::pin(pending()));
        waiters.completed_subscription = Some(Box::pin(pending()));
        for ticket in [head, third, next] {
            assert!(waiters.subscription.is_some() && waiters.completed_subscription.is_some());
            let (removed, wakers) = waiters.remove(ticket);
            wakers.wake();
            let taken = removed.subscriptions.iter().flatten().count();
            assert_eq!(taken, if ticket == next { 2 } else { 0 });
        }
    }
}
