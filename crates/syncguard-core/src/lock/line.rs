//! The order of the waiters for one key. Pure: it calls no waker and drops nothing foreign.

use std::{
    collections::BTreeMap,
    future::Future,
    mem::take,
    pin::Pin,
    task::{Poll, Waker},
};

use tokio::runtime::Id;

use super::{attempt::Attempted, detached::Detached, fairness::Possession};
use crate::Error;

pub(super) type Attempt = Detached<Result<Attempted, Error>>;

pub(super) type Released = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The waiters for a key, and the state of the one whose turn it is.
#[derive(Default)]
pub(super) struct Line {
    next: u64,
    head: Option<Head>,
    /// The others, by ticket: first come, first served.
    waiting: BTreeMap<u64, Waiter>,
    /// Counts the polls of heads.
    polls: u64,
    watchers: Vec<(Id, Option<Waker>)>,
    /// Whether the head should ask because of something that happened in this process.
    pub(super) freed: bool,
    /// The subscription to releases by other processes, passed on from head to head.
    pub(super) released: Option<Released>,
    /// The subscription that completed last, kept until the next one is active, so that a
    /// connection or a task that the backend shares between both does not end in between.
    pub(super) spent: Option<Released>,
    /// The attempt of the head, between two polls.
    pub(super) attempt: Option<Attempt>,
    pub(super) possession: Possession,
}

struct Head {
    ticket: u64,
    waker: Waker,
    /// Whether it was woken and has not been polled since.
    woken: bool,
}

struct Waiter {
    waker: Waker,
    /// Whether it had the turn and did not take it; it is passed over until it is polled again.
    absent: bool,
}

/// Wakers to be called once the line is unlocked.
#[derive(Default)]
#[must_use = "who is not woken waits for ever"]
pub(super) struct Wakers {
    head: Option<Waker>,
    watchers: Vec<Waker>,
}

/// What a waiter leaves behind. Dropping it runs backend code.
#[derive(Default)]
pub(super) struct Left {
    attempt: Option<Attempt>,
    subscriptions: [Option<Released>; 2],
}

impl Wakers {
    pub(super) fn wake(self) {
        self.head.into_iter().chain(self.watchers).for_each(Waker::wake);
    }
}

impl Line {
    pub(super) fn ticket(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn is_head(&self, ticket: u64) -> bool {
        self.head.as_ref().is_some_and(|head| head.ticket == ticket)
    }

    pub(super) fn is_followed(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Records a poll. Returns `Ok` for the waiter whose turn it is; the others wait.
    pub(super) fn poll_turn(&mut self, ticket: u64, waker: &Waker) -> Result<(), Wakers> {
        if self.head.is_none() {
            // No other waiter would take the turn: the rest are absent.
            self.waiting.remove(&ticket);
            self.appoint(ticket, waker.clone());
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
        let came = match self.waiting.get_mut(&ticket) {
            Some(waiter) => {
                waiter.waker.clone_from(waker);
                take(&mut waiter.absent)
            }
            None => {
                self.waiting.insert(ticket, Waiter { waker: waker.clone(), absent: false });
                true
            }
        };
        // There is one more waiter that can take the turn.
        let watchers = if came { self.alarmed() } else { Vec::new() };
        Wakers { head: None, watchers }
    }

    /// Makes a waiter the head. A new head always asks first, whatever it waited for when it was
    /// the head before.
    fn appoint(&mut self, ticket: u64, waker: Waker) {
        self.head = Some(Head { ticket, waker, woken: false });
        self.freed = true;
    }

    /// Records that the head was woken.
    pub(super) fn head_woken(&mut self) -> Wakers {
        let Some(head) = &mut self.head else { return Wakers::default() };
        let first = !std::mem::replace(&mut head.woken, true);
        let head = Some(head.waker.clone());
        Wakers { head, watchers: if first { self.alarmed() } else { Vec::new() } }
    }

    /// Records that a lock of this process was released.
    pub(super) fn freed(&mut self) -> Wakers {
        self.freed = true;
        self.possession.freed();
        self.head_woken()
    }

    /// Takes the watchers that have to check the head, if it was woken and there is a waiter that
    /// can take the turn.
    fn alarmed(&mut self) -> Vec<Waker> {
        match self.is_overdue() {
            true => self.watchers.iter_mut().filter_map(|(_, waker)| waker.take()).collect(),
            false => Vec::new(),
        }
    }

    fn is_overdue(&self) -> bool {
        let woken = self.head.as_ref().is_some_and(|head| head.woken);
        woken && self.waiting.values().any(|waiter| !waiter.absent)
    }

    /// Waits, for a watcher, until the head was woken and others wait. Returns the count of polls,
    /// or `None` when the queue is empty; the watcher is then no longer listed.
    pub(super) fn poll_woken(&mut self, runtime: Id, waker: &Waker) -> Poll<Option<u64>> {
        if self.head.is_none() && self.waiting.is_empty() {
            self.unwatch(runtime);
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

    /// Returns whether a runtime has no watcher yet, and lists one for it.
    pub(super) fn is_unwatched(&mut self, runtime: Id) -> bool {
        let unwatched = self.watchers.iter().all(|(id, _)| *id != runtime);
        if unwatched {
            self.watchers.push((runtime, None));
        }
        unwatched
    }

    pub(super) fn unwatch(&mut self, runtime: Id) -> Option<Waker> {
        let index = self.watchers.iter().position(|(id, _)| *id == runtime)?;
        self.watchers.swap_remove(index).1
    }

    /// Takes the turn from a head that was woken and not polled since the count was `polls`.
    pub(super) fn pass_over(&mut self, polls: u64) -> Option<(Option<Attempt>, Wakers)> {
        if self.polls != polls || !self.is_overdue() {
            return None;
        }
        let Head { ticket, waker, .. } = self.head.take()?;
        self.waiting.insert(ticket, Waiter { waker, absent: true });
        Some((self.attempt.take(), self.pass_on()))
    }

    /// Removes a place. Returns the state that goes with it.
    pub(super) fn leave(&mut self, ticket: u64) -> (Left, Wakers) {
        let mut left = Left::default();
        let wakers = if self.is_head(ticket) {
            self.head = None;
            left.attempt = self.attempt.take();
            self.pass_on()
        } else {
            self.waiting.remove(&ticket);
            self.emptied()
        };
        if self.head.is_none() && self.waiting.is_empty() {
            left.subscriptions = [self.released.take(), self.spent.take()];
        }
        (left, wakers)
    }

    /// Passes the turn to the first waiter that is not absent.
    fn pass_on(&mut self) -> Wakers {
        let present = self.waiting.iter().find(|(_, waiter)| !waiter.absent);
        let Some(ticket) = present.map(|(ticket, _)| *ticket) else { return self.emptied() };
        if let Some(waiter) = self.waiting.remove(&ticket) {
            self.appoint(ticket, waiter.waker);
        }
        self.head_woken()
    }

    /// Takes all watchers if the queue has become empty: they end with it.
    fn emptied(&mut self) -> Wakers {
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

    use super::Line;

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

    /// Polls a place, and returns whether it has the turn.
    fn poll(line: &mut Line, ticket: u64) -> bool {
        line.poll_turn(ticket, Waker::noop()).map_err(|wakers| wakers.wake()).is_ok()
    }

    /// A head, and one that waits behind it.
    fn pair() -> (Line, u64, u64) {
        let mut line = Line::default();
        let (head, next) = (line.ticket(), line.ticket());
        assert!(poll(&mut line, head) && !poll(&mut line, next));
        (line, head, next)
    }

    fn runtimes() -> [(Runtime, Id); 2] {
        [(); 2].map(|()| {
            let runtime = Builder::new_current_thread().build().unwrap();
            let id = runtime.handle().id();
            (runtime, id)
        })
    }

    #[test]
    fn the_turn_is_taken_from_a_head_that_was_woken_and_not_polled_since_alone() {
        let (mut line, head, next) = pair();
        assert!(line.pass_over(line.polls).is_none(), "it was not woken");
        line.head_woken().wake();
        let polls = line.polls;
        assert!(poll(&mut line, head));
        assert!(line.pass_over(polls).is_none(), "it was polled since");
        line.head_woken().wake();
        assert!(line.pass_over(polls).is_none(), "it was polled since, and woken again");
        assert!(line.pass_over(line.polls).is_some() && line.is_head(next));
        assert!(!poll(&mut line, head));
    }

    #[test]
    fn a_runtime_whose_watcher_has_ended_is_watched_again_and_the_others_still_are() {
        let (mut line, head, next) = pair();
        let [(_first, first), (_second, second)] = runtimes();
        assert!(line.is_unwatched(first) && line.is_unwatched(second));
        let (calls, waker) = waker();
        assert!(line.poll_woken(second, &waker).is_pending());
        assert!(line.poll_woken(first, Waker::noop()).is_pending());
        line.unwatch(second).unwrap().wake();
        assert_eq!(calls.count(), 1, "it is the waker of this watcher that is returned");
        assert!(!line.is_unwatched(first));
        assert!(line.is_unwatched(second));
        drop((line.leave(head), line.leave(next)));
        assert_eq!(line.poll_woken(first, Waker::noop()), Poll::Ready(None));
        assert!(line.is_unwatched(first) && !line.is_unwatched(second));
    }

    #[test]
    fn watchers_end_with_the_last_that_leaves_and_not_before() {
        let (mut line, head, next) = pair();
        let [(_first, first), _] = runtimes();
        assert!(line.is_unwatched(first));
        let (calls, waker) = waker();
        assert!(line.poll_woken(first, &waker).is_pending());
        line.leave(next).1.wake();
        assert_eq!(calls.count(), 0);
        assert!(line.poll_woken(first, &waker).is_pending(), "the head may be followed again");
        line.leave(head).1.wake();
        assert_eq!(calls.count(), 1);
    }

    #[test]
    fn subscriptions_stay_until_the_last_has_left() {
        let (mut line, head, next) = pair();
        let third = line.ticket();
        assert!(!poll(&mut line, third));
        line.released = Some(Box::pin(pending()));
        line.spent = Some(Box::pin(pending()));
        for ticket in [head, third, next] {
            assert!(line.released.is_some() && line.spent.is_some());
            let (left, wakers) = line.leave(ticket);
            wakers.wake();
            let taken = left.subscriptions.iter().flatten().count();
            assert_eq!(taken, if ticket == next { 2 } else { 0 });
        }
    }
}
