//! Those in a queue: their places, who waits, and who makes attempts at the store.

use std::{future::Future, pin::Pin, task::Waker, time::Duration};

use tokio::time::Instant;

use super::attempt::AttemptOutcome;
use crate::{
    Error,
    backend::{Detached, Mode},
};

pub(super) type Attempt = Detached<Result<AttemptOutcome, Error>>;

pub(super) type Subscription = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One level of priority counts as much as this time in the queue.
pub(super) const PRIORITY_LEVEL: Duration = Duration::from_secs(1);

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

impl Place {
    /// Returns the place of a waiter that arrives so long after the queues were created.
    pub(super) fn new(ticket: u64, age: Duration, priority: i32) -> Self {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let level = i64::try_from(PRIORITY_LEVEL.as_micros()).unwrap_or(i64::MAX);
        let advantage = level.saturating_mul(priority.into());
        Self { order: age.saturating_sub(advantage), ticket }
    }
}

/// A waiter as it presents itself to the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) mode: Mode,
    pub(super) arrived: Instant,
}

/// A waiter that waits for its turn.
pub(super) struct Waiting {
    pub(super) candidate: Candidate,
    pub(super) waker: Waker,
    /// Whether it has not been the head yet. One that was has begun to contend as such.
    pub(super) is_admissible: bool,
    /// Whether it contended and was not polled in time; it is skipped until it is polled again.
    pub(super) unresponsive: bool,
}

/// A waiter that makes attempts: the head, or one that was admitted beside it.
pub(super) struct Contender {
    pub(super) candidate: Candidate,
    pub(super) waker: Waker,
    /// The number of the first wake-up since its last poll.
    woken: Option<u64>,
    /// Its attempt, between two polls.
    pub(super) attempt: Option<Attempt>,
}

impl Contender {
    pub(super) fn new(candidate: Candidate, waker: Waker) -> Self {
        Self { candidate, waker, woken: None, attempt: None }
    }

    pub(super) fn polled(&mut self, waker: &Waker) {
        self.woken = None;
        self.waker.clone_from(waker);
    }

    /// Records that it was woken, after `wake_ups` wake-ups. Returns whether it is the first time
    /// since its last poll.
    pub(super) fn woken(&mut self, wake_ups: &mut u64) -> bool {
        let first = self.woken.is_none();
        if first {
            *wake_ups += 1;
            self.woken = Some(*wake_ups);
        }
        first
    }

    /// Returns whether it was woken by the wake-up of this number or an earlier one, and has not
    /// been polled since.
    pub(super) fn is_unpolled_since(&self, wake_up: u64) -> bool {
        self.woken.is_some_and(|woken| woken <= wake_up)
    }
}
