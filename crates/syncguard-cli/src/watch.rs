//! Detects that the lock is lost, and how late.

use std::time::Duration;

use syncguard::{BootClock, BootInstant, Clock, Timestamp, Ttl};

use crate::{held::Held, report::note};

/// Watches the locks on behalf of a command, which takes time to end.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    held: &'a Held,
    ttl: Ttl,
    deadline: BootInstant,
    expires_at: Option<Timestamp>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(held: &'a Held, ttl: Ttl) -> Self {
        let deadline = BootClock.now() + held.remaining();
        Self { held, ttl, deadline, expires_at: held.expires_at() }
    }

    /// Waits until the lock is lost; returns how long the command may take to end.
    ///
    /// That is half of the margin by which a lease counts as lost before it ends at the store. The
    /// other half is for killing a command that did not end by itself. If the loss is noticed late,
    /// because this process or the machine stood still, the time is shorter, down to zero.
    pub(crate) async fn lost(&mut self) -> Duration {
        // Renewals move the deadline, most of them after a quarter to a third of the ttl. Checking more
        // often than that ensures that the last deadline is known when it passes.
        let poll_interval = self.ttl.as_duration() / 6;
        while !self.held.remaining().is_zero() {
            self.deadline = BootClock.now() + self.held.remaining();
            self.note_renewal();
            let _ = tokio::time::timeout(poll_interval, self.held.lost()).await;
        }
        let grace = self.ttl.margin() / 2;
        (self.deadline + grace).since(BootClock.now()).min(grace)
    }

    fn note_renewal(&mut self) {
        let expires_at = self.held.expires_at();
        if expires_at > self.expires_at {
            self.expires_at = expires_at;
            note(format_args!("the lock is renewed, for {}", self.ttl));
        }
    }
}
