//! Renewing a lease while its guard lives.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{
    lease::Lease,
    retry::{Jitter, Retry},
    scope::Scope,
    timer::MAX_TIMER_SLEEP,
    validity::{End, Loss},
};
use crate::{BootInstant, Error, ErrorKind, telemetry};

/// Selects whether a lock is extended while its guard lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// Never: the lock is held for its ttl, or as long as the caller extends it.
    #[default]
    Never,
    /// Every third of the ttl.
    Auto,
    /// At this interval, at most once per millisecond. If the interval is not well within the ttl,
    /// the lease ends before it is extended.
    Every(Duration),
}

/// The shortest interval between two extends of a lease, whatever is configured.
const LEAST: Duration = Duration::from_millis(1);

/// The longest pause before a failed renewal is retried. Half of the pause is random, so that the
/// guards of a process that all failed together do not all retry together.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// The maintenance of a lease while it is held.
pub(crate) struct Upkeep {
    pub(crate) renew: Renew,
    /// Ends the lease when the scope is cancelled.
    ///
    /// The lock itself stays with the store until its guard is dropped or its ttl is over, because
    /// the work under it may not have noticed the end yet.
    pub(crate) scope: Scope,
}

/// Starts the task that maintains a lease, if there is anything to do.
pub(crate) fn start(lease: &Lease, upkeep: Upkeep) {
    if upkeep.renew != Renew::Never || !upkeep.scope.is_endless() {
        start_on(lease.home(), lease, upkeep);
    }
}

fn start_on(runtime: &Handle, lease: &Lease, upkeep: Upkeep) {
    let task = Task { lease: lease.clone(), upkeep: Some(upkeep) };
    runtime.spawn(task.run());
}

/// Maintains a lease until it ends. If dropped before that, with its runtime, it leaves the rest to
/// the next use of the lease on a live runtime.
struct Task {
    lease: Lease,
    /// `None` once the lease has ended.
    upkeep: Option<Upkeep>,
}

impl Task {
    async fn run(mut self) {
        if let Some(Upkeep { renew, scope }) = &self.upkeep {
            tokio::select! {
                () = self.lease.lost() => {}
                () = scope.ended() => self.lease.end_with(End::Lost(Loss::Cancelled)),
                () = renewals(&self.lease, *renew) => {}
            }
        }
        self.upkeep = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // A backend that panics would do so again.
        if let Some(upkeep) = self.upkeep.take().filter(|_| !std::thread::panicking()) {
            let restart = |runtime: &Handle, lease: &Lease| start_on(runtime, lease, upkeep);
            self.lease.suspend(Box::new(restart));
        }
    }
}

async fn renewals(lease: &Lease, renew: Renew) {
    let mut last = lease.now();
    loop {
        let moved = lease.moved();
        let pace = lease.pace();
        let interval = match renew {
            Renew::Never => return std::future::pending().await,
            Renew::Auto => pace / 3,
            Renew::Every(interval) => interval,
        };
        // Sleep by the boot clock, in short steps: a timer stands still while the machine sleeps.
        let due = last + interval.max(LEAST);
        let left = due.since(lease.now());
        if !left.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(left.min(MAX_TIMER_SLEEP)) => {}
                () = moved => {}
            }
            continue;
        }
        last = renew_once(lease).await;
    }
}

/// Extends the lease once. If the store does not answer, retries until the lease is lost, which
/// ends the surrounding task.
///
/// Returns when the last attempt began. The next renewal is scheduled from that time. Scheduled
/// from the first attempt, it would follow immediately after a long outage, for all guards
/// together, when the store has the largest backlog.
async fn renew_once(lease: &Lease) -> BootInstant {
    loop {
        let begun = lease.now();
        let Err(error) = extend(lease).await else { return begun };
        if error.kind() == ErrorKind::Lost {
            return begun;
        }
        tracing::debug!(
            target: "syncguard",
            { syncguard.key.hash = %lease.key(), %error },
            "a renewal failed and is tried again"
        );
        let pause = Retry::fixed((lease.pace() / 10).min(MAX_PAUSE)).jitter(Jitter::Equal);
        tokio::time::sleep(pause.schedule().next().unwrap_or_default()).await;
    }
}

async fn extend(lease: &Lease) -> Result<(), Error> {
    let renewing = telemetry::renewing(lease.key(), lease.lock_id(), lease.granted_fence());
    let result = renewing.within(lease.extend_once(lease.ttl())).await;
    renewing.end(result)
}
