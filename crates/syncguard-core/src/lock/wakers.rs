//! What remains to be done once the waiters of a queue are unlocked.

use std::task::Waker;

use super::{
    announcing::Announcing,
    contender::{Attempt, Subscription},
};

/// Wakers to be called, and announcements to be withdrawn.
#[derive(Default)]
#[must_use = "a waiter that is not woken waits for ever"]
pub(super) struct Wakers {
    pub(super) contender: Option<Waker>,
    pub(super) others: Vec<Waker>,
    pub(super) announcing: Option<Announcing>,
}

impl Wakers {
    pub(super) fn of(others: Vec<Waker>) -> Self {
        Self { others, ..Self::default() }
    }

    pub(super) fn wake(self) {
        drop(self.announcing);
        self.contender.into_iter().chain(self.others).for_each(Waker::wake);
    }
}

/// The state that is removed with a waiter. Dropping it runs backend code.
#[derive(Default)]
pub(super) struct Removed {
    pub(super) attempt: Option<Attempt>,
    pub(super) subscriptions: [Option<Subscription>; 2],
}
