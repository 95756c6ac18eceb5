use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{
    runtime::Runtimes,
    sleepers::{Sleeper, Sleepers},
    store_clock::StoreClock,
    timer::Timer,
};
use crate::{
    BootInstant, Clock, DynBackend, Error, ErrorKind, LockKey, Operation, Owner, ReleaseOutcome,
    Timestamp, Ttl,
    backend::{Detached, ExtendOutcome, LockBackend, LockRef, Mode},
    telemetry::{self, Classify},
};

pub(crate) type OnReleaseError = Arc<dyn Fn(&Error) + Send + Sync>;

/// Counts the locks that this process holds, and notifies its waiters of their release.
pub(crate) trait Holds: Send + Sync {
    /// Counts a lock.
    fn began(&self, key: &LockKey, mode: Mode);

    /// Counts a lock less that has ended without a release.
    fn ended(&self, key: &LockKey, mode: Mode);

    /// Counts a lock less that has been released, and notifies the waiters of the key if that may
    /// have freed it for them.
    fn released(&self, key: &LockKey, mode: Mode);

    /// Notifies the waiters of a key that was released by a lock that no longer counted.
    fn freed(&self, key: &LockKey);

    /// Notifies the waiters of a key that an abandoned id may have held. One whose last attempt
    /// failed waits on.
    fn abandoned(&self, key: &LockKey);
}

/// The state that all locks of one [`LockManager`](crate::LockManager) share.
pub(crate) struct Shared {
    pub(crate) backend: DynBackend,
    pub(crate) clock: Arc<dyn Clock>,
    /// Those that sleep by the clock.
    pub(crate) sleepers: Arc<Sleepers>,
    /// `None` if the store has no clock of its own.
    pub(crate) store_clock: Option<StoreClock>,
    /// The holders and waiters of this process.
    pub(crate) holds: Box<dyn Holds>,
    /// The shortest pause for waiters of other processes, or `None` if such waiters cannot exist.
    pub(crate) min_pause: Option<Duration>,
    /// Tracks everything that must still reach the store after its caller was dropped.
    pub(crate) tasks: TaskTracker,
    pub(crate) owner: Owner,
    pub(crate) grace: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) runtimes: Runtimes,
    pub(crate) on_release_error: Option<OnReleaseError>,
}

impl Shared {
    /// Sends a request that concerns a lock of this process, bounds it by `limit`, and reports it
    /// to telemetry. A request that timed out may have applied.
    pub(crate) async fn send_with_timeout<T: Classify>(
        &self,
        operation: Operation,
        limit: Duration,
        home: &Handle,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let requesting = telemetry::requesting(operation);
        let request = self.with_timeout(limit, Some(home), request);
        let reply = requesting.within(pin!(request)).await;
        let timed_out = || Err(Error::new(ErrorKind::NetworkTimeout).with_operation(operation));
        requesting.end(reply.unwrap_or_else(timed_out))
    }

    /// Records the time on the store's clock, which a reply contains. Those that sleep until a lease
    /// ends are woken if it may end sooner than they assume.
    pub(crate) fn record_store_time(&self, expires_at: Timestamp, ttl: Ttl, sent: BootInstant) {
        if let Some(store_clock) = &self.store_clock
            && store_clock.record_reply(expires_at, ttl, sent, self.clock.now())
        {
            self.sleepers.wake();
        }
    }

    /// Registers one that is about to read the clock, and to sleep by it.
    pub(crate) fn sleeper(&self) -> Sleeper<'_> {
        self.sleepers.join(&self.clock)
    }

    /// Sends a request that does not concern a lock of this process, and bounds it by the request
    /// timeout.
    pub(crate) async fn send<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let home = self.runtimes.home(operation).ok();
        let reply = self.with_timeout(self.request_timeout, home.as_ref(), request).await;
        reply.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::NetworkTimeout).with_context(operation, None, None))
        })
    }

    /// Returns `None` if the request takes longer than `limit`. The time counts from the first
    /// poll: a request that completes in that poll does not read the clock.
    async fn with_timeout<F: Future>(
        &self,
        limit: Duration,
        home: Option<&Handle>,
        request: F,
    ) -> Option<F::Output> {
        let mut request = pin!(request);
        let mut timer = None;
        poll_fn(|context| match self.runtimes.poll_in_context(home, request.as_mut(), context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                let timer = timer.get_or_insert_with(|| Timer::after(limit));
                Pin::new(timer).poll(context).map(|()| None)
            }
        })
        .await
    }

    /// Ends a grant immediately, or sets it to expire at `keep_until`.
    ///
    /// If that fails, the grant ends with its ttl. That is later than intended, unless an extend
    /// has made the ttl shorter than the rest of `min_hold`. If an extend without a reply is
    /// applied afterwards, that extend determines the expiry.
    pub(crate) async fn end_grant(
        &self,
        lock: &LockRef,
        keep_until: Option<BootInstant>,
        home: &Handle,
    ) -> Result<ReleaseOutcome, Error> {
        let left = keep_until.map(|until| until.since(self.clock.now()));
        let left = left.filter(|left| !left.is_zero()).map(Ttl::covering);
        let Some(left) = left else {
            let request = self.backend.release(lock);
            return self
                .send_with_timeout(Operation::Release, self.request_timeout, home, request)
                .await;
        };
        let request = self.backend.extend(lock, left);
        let reply =
            self.send_with_timeout(Operation::Release, self.request_timeout, home, request).await;
        reply.map(|outcome| match outcome {
            ExtendOutcome::Extended { .. } => ReleaseOutcome::Released,
            ExtendOutcome::NotHeld(reason) => ReleaseOutcome::NotHeld(reason),
        })
    }

    /// Reports that a lock could not be released.
    pub(crate) fn report_release_error(&self, error: &Error) {
        telemetry::release_failed(error);
        if let Some(callback) = &self.on_release_error {
            // A callback that panics must not prevent the clean-up of other locks.
            if catch_unwind(AssertUnwindSafe(|| callback(error))).is_err() {
                tracing::error!(target: "syncguard", "on_release_error panicked");
            }
        }
    }

    /// Creates a future that runs to its end, on `host`, even if its caller drops it.
    ///
    /// It must not depend on the runtime that polls it: its timers are [`Timer`]s. If `host` has
    /// ended, the future is dropped, and its remaining duties pass to a
    /// [`Cleanup`](super::cleanup::Cleanup).
    pub(crate) fn detached<T: Send + 'static>(
        &self,
        host: &Handle,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Detached<T> {
        Detached::new(future, host.clone()).tracked_by(self.tasks.clone())
    }
}
