//! Extending a lease for as long as its guard lives.

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

/// Says whether a lock is extended while its guard lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// It is not: it is held for its ttl, or as long as the caller extends it.
    #[default]
    Never,
    /// Every third of the ttl.
    Auto,
    /// Every so often, at most once in a millisecond. Where that is not well within the ttl, the
    /// lease is over before it is extended.
    Every(Duration),
}

/// No lease is extended more often than this, whatever is asked for.
const LEAST: Duration = Duration::from_millis(1);

/// How long a renewal that failed rests at most before it is tried again. Half of it is random, so
/// that the guards of a process that all failed together do not all come back together.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// What is done for a lease while it is held.
pub(crate) struct Upkeep {
    pub(crate) renew: Renew,
    /// Ends the lease when it ends.
    ///
    /// The lock itself stays with the store until its guard is dropped, or its ttl is over: whoever
    /// works under it may not have noticed yet.
    pub(crate) scope: Scope,
}

/// Starts the task that looks after a lease, where there is anything to do.
pub(crate) fn start(lease: &Lease, upkeep: Upkeep) {
    if upkeep.renew != Renew::Never || !upkeep.scope.is_endless() {
        start_on(lease.home(), lease, upkeep);
    }
}

fn start_on(runtime: &Handle, lease: &Lease, upkeep: Upkeep) {
    let task = Task { lease: lease.clone(), upkeep: Some(upkeep) };
    runtime.spawn(task.run());
}

/// Looks after a lease until it ends. Dropped before that, with its runtime, it leaves the rest to
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
        // By the boot clock, in stretches: a timer stands still while the machine sleeps.
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

/// Extends the lease once; where the store does not answer, tries until the lease is lost, which
/// ends the task around this.
///
/// Returns when the last try began. The next renewal counts from there: counted from the first try,
/// it would come at once after a long outage, from all guards together, when the store has most to
/// catch up with.
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
