//! The renewal of a lease while its guard exists.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    lease_state::LeaseState,
    retry::Jitter,
    scope::Scope,
    timer::Timer,
    validity::{End, Loss},
};
use crate::{BootInstant, Error, ErrorKind, backend::Detached, telemetry};

/// Selects whether a lock is extended while its guard exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// Never: the lock is held for its ttl, or as long as the caller extends it.
    #[default]
    Never,
    /// After a random time between a quarter and a third of the ttl, counted from the request before
    /// it, so that locks that were acquired together are not renewed together. The first renewal
    /// comes after a twelfth of the ttl at the earliest: from the first round on, the renewals of
    /// many locks spread over the whole time.
    Auto,
    /// At this interval, at most once per millisecond. If the interval is not well below the ttl,
    /// the lease ends before it is extended.
    Every(Duration),
}

/// The shortest and the longest interval between two renewals, in parts of the ttl.
const INTERVAL: (f64, f64) = (1.0 / 4.0, 1.0 / 3.0);

/// The shortest time from the request for a lock to its first renewal, in parts of the ttl. From here
/// to the longest interval, it covers most of a period: the renewals of locks that are acquired
/// together then never come much faster than on average. With the shortest interval instead, they
/// would come three times as fast for several rounds.
const MIN_FIRST_INTERVAL: f64 = 1.0 / 12.0;

/// The shortest interval between two extends of a lease, whatever is configured.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The longest delay before a failed renewal is retried. Half of the delay is random, so that
/// guards of a process whose renewals failed together do not retry together.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(250);

/// The maintenance of a lease while it is held.
pub(crate) struct Upkeep {
    pub(crate) renew: Renew,
    /// Ends the lease when the scope is cancelled.
    ///
    /// The lock itself stays at the store until its guard is dropped or its ttl has elapsed,
    /// because the work under it may not have noticed the end yet.
    pub(crate) scope: Scope,
}

/// Starts the task that maintains a lease, if there is anything to do.
pub(crate) fn start(lease: &Arc<LeaseState>, upkeep: Upkeep) {
    if upkeep.renew != Renew::Never || !upkeep.scope.has_no_token() {
        start_on(&lease.home, lease, upkeep);
    }
}

fn start_on(runtime: &Handle, lease: &Arc<LeaseState>, upkeep: Upkeep) {
    let task = Task { lease: lease.clone(), upkeep: Some(upkeep) };
    runtime.spawn(task.run());
}

/// Maintains a lease until it ends. If dropped before that, with its runtime, it is restarted by
/// the next use of the lease on a live runtime.
struct Task {
    lease: Arc<LeaseState>,
    /// `None` once the lease has ended.
    upkeep: Option<Upkeep>,
}

impl Task {
    async fn run(mut self) {
        if let Some(Upkeep { renew, scope }) = &self.upkeep {
            tokio::select! {
                () = renew_until_lost(&self.lease, *renew) => {}
                () = scope.cancelled() => self.lease.end_with(End::Lost(Loss::Cancelled)),
            }
        }
        self.upkeep = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // A backend that panicked would panic again.
        if let Some(upkeep) = self.upkeep.take().filter(|_| !std::thread::panicking()) {
            let restart =
                |runtime: &Handle, lease: &Arc<LeaseState>| start_on(runtime, lease, upkeep);
            self.lease.suspend(Box::new(restart));
        }
    }
}

/// Renews a lease in the caller's task. Completes when the lease is lost.
pub(crate) async fn renew_until_lost(lease: &Arc<LeaseState>, renew: Renew) {
    tokio::select! {
        () = lease.lost() => {}
        () = renewals(lease, renew) => {}
    }
}

/// Sends a renewal whenever one is due.
///
/// The first interval counts from the request for the lease, not from now: renewals may start later
/// than the lease, or continue on another runtime. One that is overdue by then is sent immediately.
async fn renewals(lease: &Arc<LeaseState>, renew: Renew) {
    let (mut last, mut part) = (lease.requested_at, between(MIN_FIRST_INTERVAL, INTERVAL.1));
    let mut late = Duration::ZERO;
    loop {
        let (changed, sleeper) = (lease.changed(), lease.shared.sleeper());
        let interval = match renew {
            Renew::Never => return std::future::pending().await,
            // A part of the ttl, or after a slow reply, of the time that was left then. After a stall,
            // the next renewals of leases would otherwise be due immediately, ahead of those that were
            // not renewed yet and have less time left.
            Renew::Auto => late + lease.shortest_ttl().saturating_sub(late).mul_f64(part),
            Renew::Every(interval) => interval,
        };
        let due = last + interval.max(MIN_INTERVAL);
        let left = due.since(lease.now());
        if !left.is_zero() {
            tokio::select! {
                () = sleeper.sleep(left) => {}
                () = changed => {}
            }
            continue;
        }
        drop(sleeper);
        last = renew_once(lease).await;
        (part, late) = (between(INTERVAL.0, INTERVAL.1), lease.now().since(last));
    }
}

/// Returns a random number in this range.
fn between(min: f64, max: f64) -> f64 {
    min + (max - min) * Jitter::Full.of(Duration::from_secs(1)).as_secs_f64()
}

/// Extends the lease once. If the store does not answer, retries until the lease is lost, which
/// ends the surrounding task.
///
/// Returns when the last attempt began. The next renewal is scheduled from that time. Scheduled
/// from the first attempt, it would follow immediately after a long outage, for all guards
/// together, when the store has the largest backlog.
async fn renew_once(lease: &Arc<LeaseState>) -> BootInstant {
    loop {
        let started = lease.now();
        let Err(error) = extend(lease).await else { return started };
        if error.kind() == ErrorKind::Lost {
            return started;
        }
        tracing::debug!(
            target: "syncguard",
            { syncguard.key.hash = %lease.key, %error },
            "a renewal failed and will be retried"
        );
        let delay = (lease.shortest_ttl() / 10).min(MAX_RETRY_DELAY).max(MIN_INTERVAL);
        Timer::after(Jitter::Equal.of(delay)).await;
    }
}

/// Sends one extend. If dropped while it is in flight, it continues in the background.
///
/// **Invariant:** the reply to a renewal that was sent reaches its lease, although the renewals end
/// meanwhile: those of [`lock_all`](crate::LockManager::lock_all) when it returns its guard, those
/// of a guard with its release. Cut off, the extend would stay in doubt, and its ttl would bound
/// every later deadline. And the next extend, or the release at the end of
/// [`min_hold`](crate::LockBuilder::min_hold), could be overtaken by it; this way, both wait for its
/// reply or its time limit. The release in the background, of a guard that was dropped, does not: if
/// it is overtaken, the key stays held until the ttl of the renewal has elapsed.
async fn extend(lease: &Arc<LeaseState>) -> Result<(), Error> {
    let renewing = telemetry::renewing(&lease.key, lease.lock_id, lease.fence);
    let (state, host) = (lease.clone(), lease.shared.runtimes.host(&lease.home));
    let extend = async move { state.extend_once(state.ttl()).await };
    let result = renewing.within(Detached::new(extend, host)).await;
    renewing.end(result)
}
