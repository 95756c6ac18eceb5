//! What remains to be done once the waiters of a queue are unlocked.

use std::task::Waker;

use super::contender::{Attempt, Subscription};

/// Wakers to be called.
#[derive(Default)]
#[must_use = "a waiter that is not woken waits for ever"]
pub(super) struct Wakers {
    pub(super) contender: Option<Waker>,
    pub(super) others: Vec<Waker>,
}

impl Wakers {
    pub(super) fn of(others: Vec<Waker>) -> Self {
        Self { contender: None, others }
    }

    pub(super) fn wake(self) {
        self.contender.into_iter().chain(self.others).for_each(Waker::wake);
    }
}

/// The state that is removed with a waiter. Dropping it runs backend code.
#[derive(Default)]
pub(super) struct Removed {
    pub(super) attempt: Option<Attempt>,
    pub(super) subscriptions: [Option<Subscription>; 2],
}
