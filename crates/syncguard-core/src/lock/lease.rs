use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, futures::Notified},
    task::JoinError,
};
use tracing::Instrument;

use super::{
    cleanup::{Action, Cleanup},
    shared::Shared,
    timer::{MAX_TIMER_SLEEP, Timer},
    validity::{End, Loss, Validity},
};
use crate::{
    AcquireRequest, BootInstant, Error, ErrorKind, ExtendOutcome, Fence, Grant, LockBackend,
    LockId, LockKey, LockRef, Operation, ReleaseOutcome, Timestamp, Ttl,
    telemetry::{self, Stopwatch},
};

/// A handle on a held lock, for everything except releasing it.
///
/// Cheap to clone. All clones refer to the same grant, and none keeps it alive. The
/// [`LockGuard`](crate::LockGuard) dereferences to it, and `run` passes it to the work.
///
/// **Guarantees:** once it reports the lock as lost, it does so for ever. It detects the loss by
/// the local boot clock, no later than a margin (5 % of the ttl, at least 50 ms, at most half of
/// the ttl) before the store may grant the key to another holder, whether or not the store can be
/// reached.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

/// Starts a task that maintains a lease.
pub(crate) type Restart = Box<dyn FnOnce(&Handle, &Lease) + Send>;

struct Inner {
    shared: Arc<Shared>,
    /// The runtime on which the lock was acquired.
    home: Handle,
    key: LockKey,
    lock_id: LockId,
    fence: Fence,
    state: Mutex<State>,
    held: Stopwatch,
    /// Whether the end of the lease was announced to waiters and telemetry.
    announced: AtomicBool,
    /// Notifies tasks that depend on the deadline or the ttl when it moves or the lease ends.
    moved: Notify,
    /// How to end the grant: by abandoning it if its first acquire may still be in flight.
    action: Action,
    /// Until when the key stays taken after a release; set once the lock has reached its user.
    keep_until: OnceLock<BootInstant>,
    /// One extend at a time: two in flight could overtake each other and shorten the lease.
    extending: tokio::sync::Mutex<()>,
    /// Whether the upkeep in `state` waits for a runtime on which to continue.
    upkeep_stopped: AtomicBool,
}

struct State {
    validity: Validity,
    expires_at: Timestamp,
    /// Restarts on another runtime the task that maintained the lease until its runtime was shut
    /// down.
    stopped: Option<Restart>,
}

impl Lease {
    pub(crate) fn new(
        shared: Arc<Shared>,
        home: Handle,
        request: &AcquireRequest,
        grant: Grant,
        validity: Validity,
        action: Action,
    ) -> Self {
        Self(Arc::new(Inner {
            held: Stopwatch::start(&shared.clock),
            shared,
            home,
            key: request.key.clone(),
            lock_id: request.lock_id,
            fence: grant.fence,
            state: Mutex::new(State { validity, expires_at: grant.expires_at, stopped: None }),
            announced: AtomicBool::new(false),
            moved: Notify::new(),
            action,
            keep_until: OnceLock::new(),
            extending: tokio::sync::Mutex::new(()),
            upkeep_stopped: AtomicBool::new(false),
        }))
    }

    /// Returns the fence of the grant, to be checked at the resource.
    ///
    /// # Errors
    ///
    /// [`Lost`](ErrorKind::Lost) once the lock is no longer held, so that a fence that is no longer
    /// current is never used by mistake.
    pub fn fence(&self) -> Result<Fence, Error> {
        self.held().map(|_| self.0.fence).ok_or_else(|| self.lost_error())
    }

    /// Returns the fence of the grant, held or not. For diagnostics.
    pub(crate) fn granted_fence(&self) -> Fence {
        self.0.fence
    }

    /// Returns the key.
    pub fn key(&self) -> &LockKey {
        &self.0.key
    }

    /// Returns the id that proves ownership.
    pub fn lock_id(&self) -> LockId {
        self.0.lock_id
    }

    /// Returns when the grant ends unless it is extended, on the store's clock.
    pub fn expires_at(&self) -> Timestamp {
        self.state().expires_at
    }

    /// Returns how long the lock can still be relied upon without an extend, or zero once it is
    /// lost or released. This time ends a margin before the store's expiry.
    pub fn remaining(&self) -> Duration {
        self.held().unwrap_or_default()
    }

    /// Returns whether the lock is held, by the local boot clock; sends no request.
    ///
    /// After the process was stopped, or the machine slept, past the deadline, the first call
    /// returns false.
    pub fn is_valid(&self) -> bool {
        self.held().is_some()
    }

    /// Returns how the lock was lost, or `None` if it is held or was released.
    pub fn loss(&self) -> Option<Loss> {
        match self.end() {
            Some(End::Lost(loss)) => Some(loss),
            Some(End::Given) | None => None,
        }
    }

    /// Completes as soon as the lock is no longer held, for any reason. Does not require a runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be dropped and called again.
    pub async fn lost(&self) {
        loop {
            let moved = self.moved();
            let Some(remaining) = self.held() else { return };
            tokio::select! {
                () = moved => {}
                () = Timer::after(remaining.min(MAX_TIMER_SLEEP)) => {}
            }
        }
    }

    /// Sets the expiry to the store's current time plus `ttl`, sooner or later than before.
    /// Renewals continue with this ttl.
    ///
    /// At most one extend is in flight; this call waits for a renewal that is.
    ///
    /// # Errors
    ///
    /// [`Lost`](ErrorKind::Lost) if the lock is not held, before or after the request;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the ttl is invalid; or the reason why the
    /// store did not answer. In the last case the lock is still held until its deadline, and the
    /// call may be repeated.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the extend continues in the background.
    pub async fn extend(&self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Result<(), Error> {
        let ttl = ttl.try_into().map_err(Into::into)?;
        let extending = telemetry::extending(self.key(), self.lock_id(), self.0.fence);
        let result = extending.within(self.extend_apart(ttl)).await;
        extending.end(result)
    }

    /// Extends in a separate task: if the caller stops polling, renewals must not block.
    async fn extend_apart(&self, ttl: Ttl) -> Result<(), Error> {
        let lease = self.clone();
        let extend = async move { lease.extend_once(ttl).await };
        let host = self.0.shared.runtimes.host(&self.0.home);
        let ended = tokio::select! {
            biased;
            ended = host.spawn(extend.in_current_span()) => ended,
            // In case no thread drives that runtime.
            () = self.lost() => return Err(self.lost_error()),
        };
        match ended {
            Ok(result) => result,
            // The runtime was shut down. The caller is being polled, so the extend is polled here.
            Err(ended) if ended.is_cancelled() => self.extend_once(ttl).await,
            Err(ended) => Err(self.extend_ended(ended)),
        }
    }

    fn extend_ended(&self, ended: JoinError) -> Error {
        let error = Error::new(ErrorKind::Aborted, Operation::Extend).with_source(ended);
        error.with_key(self.key()).with_lock_id(self.lock_id())
    }

    /// Extends in the caller's task.
    pub(crate) async fn extend_once(&self, ttl: Ttl) -> Result<(), Error> {
        let _alone = self.0.extending.lock().await;
        self.fence()?;
        let sent = self.0.shared.clock.now();
        self.state().validity.extending(sent, ttl);
        self.0.moved.notify_waiters();
        let time_left = self.remaining();
        let limit = self.0.shared.request_timeout.min(time_for_a_try(time_left, ttl));
        let lock = self.lock_ref().with_time_left(time_left);
        let request = self.0.shared.backend.extend(&lock, ttl);
        match self.0.shared.bounded(Operation::Extend, limit, &self.0.home, request).await {
            Ok(ExtendOutcome::Extended { expires_at }) => {
                self.0.shared.answered(expires_at, ttl, sent);
                let mut state = self.state();
                state.expires_at = expires_at;
                state.validity.extended(sent, ttl, self.0.shared.clock.now());
                drop(state);
                self.0.moved.notify_waiters();
            }
            Ok(ExtendOutcome::NotHeld(_)) => self.end_with(End::Lost(Loss::NotHeld)),
            Err(error) => {
                if !error.may_have_applied() {
                    self.state().validity.extend_settled();
                }
                self.fence()?;
                return Err(error.with_key(self.key()).with_lock_id(self.lock_id()));
            }
        }
        self.fence().map(drop)
    }

    /// Waits until no extend awaits its answer. An extend that timed out may still be in flight.
    pub(crate) async fn extends_settled(&self) {
        drop(self.0.extending.lock().await);
    }

    /// Returns the ttl that renewals ask for.
    pub(crate) fn ttl(&self) -> Ttl {
        self.state().validity.ttl()
    }

    /// Returns the ttl by which renewals are timed.
    pub(crate) fn pace(&self) -> Duration {
        self.state().validity.pace()
    }

    /// Ends the lease, unless it has ended before.
    pub(crate) fn end_with(&self, end: End) {
        // Check the clock first: a lease that expired unnoticed was lost, not released.
        if self.end().is_none() {
            let ended = self.state().validity.end(end);
            self.announce(ended);
        }
    }

    /// Returns whether an acquire under the id may still be in flight.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.0.action == Action::Abandon
    }

    /// Keeps the key taken for `min_hold` from now on, even if the lock is released earlier. The
    /// grant was made before now.
    pub(crate) fn keep_for(&self, min_hold: Duration) {
        // It reaches its user once.
        let _ = self.0.keep_until.set(self.now() + min_hold);
    }

    /// Returns until when the key stays taken after a release.
    pub(crate) fn keep_until(&self) -> Option<BootInstant> {
        self.0.keep_until.get().copied()
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.0.shared.clock.now()
    }

    /// Resolves when the deadline or the ttl moves after this call, or the lease ends.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.0.moved.notified()
    }

    pub(crate) fn lock_ref(&self) -> LockRef {
        LockRef::new(self.lock_id(), self.key().clone())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(crate) fn home(&self) -> &Handle {
        &self.0.home
    }

    /// Ends the lease here and at the store.
    pub(crate) async fn give_back(self) -> Result<ReleaseOutcome, Error> {
        self.end_with(End::Given);
        let (shared, host) = (self.shared().clone(), self.shared().runtimes.host(self.home()));
        let releasing = telemetry::releasing(self.key(), self.lock_id(), self.0.fence);
        let result = releasing.within(shared.detached(&host, release(self))).await;
        releasing.end(result)
    }

    /// Leaves the release to a background task.
    pub(crate) fn release_later(&self) {
        let (key, lock_id, ttl) =
            (self.key().clone(), self.lock_id(), self.state().validity.longest());
        let cleanup =
            Cleanup { key, lock_id, ttl, action: self.0.action, keep_until: self.keep_until() };
        cleanup.start(self.shared(), self.home());
    }

    /// Returns the error that explains why the lock is not held.
    pub(crate) fn lost_error(&self) -> Error {
        let why =
            self.loss().map_or_else(|| "it was given back".to_owned(), |loss| loss.to_string());
        Error::new(ErrorKind::Lost, Operation::Hold)
            .with_key(self.key())
            .with_lock_id(self.lock_id())
            .with_detail(why)
    }

    /// Returns the time left, or `None` if the lock is not held.
    fn held(&self) -> Option<Duration> {
        self.resume();
        let remaining = self.judged().validity.remaining(self.0.shared.clock.now());
        remaining.inspect_err(|end| self.announce(*end)).ok()
    }

    /// Stores how to restart a task that was stopped with its runtime, for the next use of the
    /// lease on a live runtime.
    pub(crate) fn suspend(&self, restart: Restart) {
        self.state().stopped = Some(restart);
        self.0.upkeep_stopped.store(true, Ordering::Release);
    }

    /// Continues, on the caller's runtime, the task that was stopped together with another one.
    fn resume(&self) {
        if !self.0.upkeep_stopped.load(Ordering::Acquire) {
            return;
        }
        if let Ok(here) = self.0.shared.runtimes.home(Operation::Extend) {
            self.0.upkeep_stopped.store(false, Ordering::Release);
            let stopped = self.state().stopped.take();
            if let Some(restart) = stopped {
                restart(&here, self);
            }
        }
    }

    fn end(&self) -> Option<End> {
        let end = self.judged().validity.end_by(self.0.shared.clock.now());
        end.inspect(|end| self.announce(*end))
    }

    /// Wakes the waiters for the end, once.
    fn announce(&self, end: End) {
        if self.0.announced.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.moved.notify_waiters();
        let loss = match end {
            End::Lost(loss) => Some(loss),
            End::Given => None,
        };
        telemetry::ended(self.key(), self.lock_id(), self.0.fence, &self.0.held, loss);
    }

    /// Returns the state, updated from the store's clock.
    fn judged(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let Some(store_clock) = &self.0.shared.store_clock {
            let over = store_clock.over(state.expires_at);
            state.validity.over_at_the_store(over);
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the state is locked, so it is whole even if poisoned.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn release(lease: Lease) -> Result<ReleaseOutcome, Error> {
    let mut unanswered = ReleaseOnDrop { lease, open: true };
    let lease = unanswered.lease.clone();
    if lease.keep_until().is_some() {
        // An extend that overtook this one would decide when the key is free.
        lease.extends_settled().await;
    }
    let shared = lease.shared();
    let answer = shared.end_grant(&lease.lock_ref(), lease.keep_until(), lease.home()).await;
    if answer.is_ok() {
        // An acquire that is still in flight would be granted after the release: abandon it too.
        unanswered.open = lease.is_in_doubt();
        (shared.on_freed)(lease.key());
    }
    answer.map_err(|error| error.with_key(lease.key()).with_lock_id(lease.lock_id()))
}

/// A release that the store has not answered. If dropped, it continues in the background.
struct ReleaseOnDrop {
    lease: Lease,
    open: bool,
}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        if self.open {
            self.lease.release_later();
        }
    }
}

/// Returns the time limit of one extend: half of the time left, because an answer past the deadline
/// is useless and a retry needs time. Near the deadline, where half would be too short for a store
/// under load, it is at least a thirtieth of the ttl.
fn time_for_a_try(remaining: Duration, ttl: Ttl) -> Duration {
    (remaining / 2).max(remaining.min(ttl.as_duration() / 30))
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.key())
            .field("lock_id", &self.lock_id())
            .field("fence", &self.0.fence)
            .field("valid", &self.is_valid())
            .finish_non_exhaustive()
    }
}
