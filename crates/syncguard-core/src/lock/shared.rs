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

use super::{detached::Detached, runtime::Runtimes, store_clock::StoreClock, timer::Timer};
use crate::{
    BootInstant, Clock, DynBackend, Error, ErrorKind, ExtendOutcome, LockBackend, LockKey, LockRef,
    Operation, Owner, ReleaseOutcome, Timestamp, Ttl,
    telemetry::{self, Judged},
};

pub(crate) type OnReleaseError = Arc<dyn Fn(&Error) + Send + Sync>;

/// The state that all locks of one [`LockManager`](crate::LockManager) share.
pub(crate) struct Shared {
    pub(crate) backend: DynBackend,
    pub(crate) clock: Arc<dyn Clock>,
    /// `None` if the store has no clock of its own.
    pub(crate) store_clock: Option<StoreClock>,
    /// Notifies the waiters of this process that a key may be free.
    pub(crate) on_freed: Box<dyn Fn(&LockKey) + Send + Sync>,
    /// The shortest pause for waiters of other processes, or `None` if such waiters cannot exist.
    pub(crate) least_pause: Option<Duration>,
    /// Tracks everything that must still reach the store after its caller has gone.
    pub(crate) tasks: TaskTracker,
    pub(crate) owner: Owner,
    pub(crate) grace: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) runtimes: Runtimes,
    pub(crate) on_release_error: Option<OnReleaseError>,
}

impl Shared {
    /// Bounds one request that changes something, and reports it to telemetry. A request that was
    /// cut short may have applied.
    pub(crate) async fn bounded<T: Judged>(
        &self,
        operation: Operation,
        limit: Duration,
        home: &Handle,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let requesting = telemetry::requesting(operation);
        let request = self.limited(limit, Some(home), request);
        let answer = requesting.within(pin!(request)).await;
        let late = || Err(Error::new(ErrorKind::NetworkTimeout, operation));
        requesting.end(answer.unwrap_or_else(late))
    }

    /// Records the reading of the store's clock from an answer.
    pub(crate) fn answered(&self, expires_at: Timestamp, ttl: Ttl, sent: BootInstant) {
        if let Some(store_clock) = &self.store_clock {
            store_clock.answered(expires_at, ttl, sent, self.clock.now());
        }
    }

    /// Bounds one request that does not concern a lock of this process.
    pub(crate) async fn asked<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let home = self.runtimes.home(operation).ok();
        let answer = self.limited(self.request_timeout, home.as_ref(), request).await;
        answer.unwrap_or_else(|| Err(Error::new(ErrorKind::NetworkTimeout, operation)))
    }

    /// Returns `None` if the request takes longer than `limit`. The time counts from the first
    /// poll: a request that completes in that poll does not read the clock.
    async fn limited<F: Future>(
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

    /// Ends a grant immediately, or lets it expire at `keep_until`.
    ///
    /// If that fails, the grant ends with its ttl: later than it should, unless an extend has made
    /// the ttl shorter than the time left to keep. If an extend without an answer is applied
    /// afterwards, that extend determines the expiry.
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
            return self.bounded(Operation::Release, self.request_timeout, home, request).await;
        };
        let request = self.backend.extend(lock, left);
        let answer = self.bounded(Operation::Release, self.request_timeout, home, request).await;
        answer.map(|outcome| match outcome {
            ExtendOutcome::Extended { .. } => ReleaseOutcome::Released,
            ExtendOutcome::NotHeld(reason) => ReleaseOutcome::NotHeld(reason),
        })
    }

    pub(crate) fn report(&self, error: &Error) {
        telemetry::release_failed(error);
        if let Some(callback) = &self.on_release_error {
            // A callback that panics must not prevent the clean-up of other locks.
            if catch_unwind(AssertUnwindSafe(|| callback(error))).is_err() {
                tracing::error!(target: "syncguard", "on_release_error panicked");
            }
        }
    }

    /// Makes a future that runs to its end, on `host`, even if its caller drops it.
    pub(crate) fn detached<T: Send + 'static>(
        &self,
        host: &Handle,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Detached<T> {
        Detached::new(future, host.clone(), self.tasks.clone())
    }
}
