use std::{
    pin::pin,
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
    timer::Timer,
    validity::{End, Loss, Validity},
};
use crate::{
    BootInstant, Error, ErrorKind, Fence, LockId, LockKey, Operation, Timestamp, Ttl,
    backend::{AcquireRequest, ExtendOutcome, Grant, LockBackend, LockRef, Mode},
    telemetry::{self, Stopwatch},
};

/// Starts a task that maintains a lease.
pub(crate) type Restart = Box<dyn FnOnce(&Handle, &Arc<LeaseState>) + Send>;

/// The state that all clones of a lease share: the grant, its validity and its renewal.
pub(crate) struct LeaseState {
    pub(crate) shared: Arc<Shared>,
    /// The runtime on which the lock was acquired.
    pub(crate) home: Handle,
    pub(crate) key: LockKey,
    pub(crate) lock_id: LockId,
    pub(crate) mode: Mode,
    pub(crate) fence: Fence,
    /// Whether the lock counts as held by this process.
    counted: AtomicBool,
    /// When the acquire was sent.
    pub(crate) requested_at: BootInstant,
    state: Mutex<State>,
    held_since: Stopwatch,
    /// Whether the end of the lease was reported to waiters and telemetry.
    end_reported: AtomicBool,
    /// Notifies tasks that depend on the deadline or the ttl when either changes or the lease ends.
    changed: Notify,
    /// How to end the grant: by abandoning it if its first acquire may still be in flight.
    action: Action,
    /// Until when the key stays held after a release; set when the guard is returned to its caller.
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

impl LeaseState {
    pub(crate) fn new(
        shared: Arc<Shared>,
        home: Handle,
        request: &AcquireRequest,
        grant: Grant,
        requested_at: BootInstant,
        validity: Validity,
        action: Action,
    ) -> Arc<Self> {
        shared.holds.began(&request.key, request.mode);
        Arc::new(Self {
            held_since: Stopwatch::start(&shared.clock),
            shared,
            home,
            key: request.key.clone(),
            lock_id: request.lock_id,
            mode: request.mode,
            fence: grant.fence,
            counted: AtomicBool::new(true),
            requested_at,
            state: Mutex::new(State { validity, expires_at: grant.expires_at, stopped: None }),
            end_reported: AtomicBool::new(false),
            changed: Notify::new(),
            action,
            keep_until: OnceLock::new(),
            extending: tokio::sync::Mutex::new(()),
            upkeep_stopped: AtomicBool::new(false),
        })
    }

    /// Returns the fence of the grant, or the reason why the lock is not held.
    pub(crate) fn fence(self: &Arc<Self>) -> Result<Fence, Error> {
        self.time_left().map(|_| self.fence).ok_or_else(|| self.lost_error())
    }

    /// Completes as soon as the lock is no longer held.
    pub(crate) async fn lost(self: &Arc<Self>) {
        loop {
            let (changed, sleeper) = (self.changed(), self.shared.sleeper());
            let Some(remaining) = self.time_left() else { return };
            tokio::select! {
                () = changed => {}
                () = sleeper.sleep(remaining) => {}
            }
        }
    }

    /// Extends the lease in a separate task: if the caller stops polling, renewals must not block.
    pub(crate) async fn extend_in_task(self: &Arc<Self>, ttl: Ttl) -> Result<(), Error> {
        let lease = self.clone();
        let extend = async move { lease.extend_once(ttl).await };
        let host = self.shared.runtimes.host(&self.home);
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
            Err(ended) => Err(self.task_error(ended)),
        }
    }

    fn task_error(&self, ended: JoinError) -> Error {
        let error =
            Error::new(ErrorKind::Aborted).with_operation(Operation::Extend).with_source(ended);
        error.with_key(&self.key).with_lock_id(self.lock_id)
    }

    /// Extends the lease in the caller's task.
    pub(crate) async fn extend_once(self: &Arc<Self>, ttl: Ttl) -> Result<(), Error> {
        let alone = self.extends_finished().await;
        self.fence()?;
        if alone.is_none() {
            return Err(self.not_sent());
        }
        let sent = self.shared.clock.now();
        self.state().validity.extend_sent(sent, ttl);
        self.changed.notify_waiters();
        let time_left = self.time_left().unwrap_or_default();
        let limit = self.shared.request_timeout.min(extend_timeout(time_left, ttl));
        let lock = self.lock_ref().with_time_left(time_left);
        let request = self.shared.backend.extend(&lock, ttl);
        match self.shared.send_with_timeout(Operation::Extend, limit, &self.home, request).await {
            Ok(ExtendOutcome::Extended { expires_at }) => {
                self.shared.record_store_time(expires_at, ttl, sent);
                let mut state = self.state();
                state.expires_at = expires_at;
                state.validity.extend_succeeded(sent, ttl, self.shared.clock.now());
                drop(state);
                self.changed.notify_waiters();
            }
            Ok(ExtendOutcome::NotHeld(_)) => self.end_with(End::Lost(Loss::NotHeld)),
            Err(error) => {
                if !error.may_have_applied() {
                    self.state().validity.extend_settled();
                }
                self.fence()?;
                return Err(error.with_key(&self.key).with_lock_id(self.lock_id));
            }
        }
        self.fence().map(drop)
    }

    /// Waits until no extend awaits its reply, and then excludes others. Of several, it waits for each
    /// as long as one may take. An extend that timed out may still be in flight, and so may one on a
    /// runtime that no thread drives: that one keeps the others out, so this returns `None`.
    pub(crate) async fn extends_finished(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let mut alone = pin!(self.extending.lock());
        loop {
            tokio::select! {
                biased;
                alone = &mut alone => return Some(alone),
                // The one before has ended, and the next one was sent.
                () = self.changed() => {}
                () = Timer::after(self.shared.request_timeout) => return None,
            }
        }
    }

    fn not_sent(&self) -> Error {
        Error::new(ErrorKind::NetworkTimeout)
            .with_operation(Operation::Extend)
            .with_key(&self.key)
            .with_lock_id(self.lock_id)
            .with_detail("an earlier extend awaits its reply, so this one was not sent")
            .not_applied()
    }

    /// Returns the ttl that renewals request.
    pub(crate) fn ttl(&self) -> Ttl {
        self.state().validity.ttl()
    }

    /// Returns the ttl from which the interval of renewals follows: the shortest that may be in
    /// force.
    pub(crate) fn shortest_ttl(&self) -> Duration {
        self.state().validity.shortest_ttl()
    }

    /// Returns how the lock was lost, or `None` if it is held or was released.
    pub(crate) fn loss(&self) -> Option<Loss> {
        match self.end() {
            Some(End::Lost(loss)) => Some(loss),
            Some(End::Released) | None => None,
        }
    }

    pub(crate) fn expires_at(&self) -> Timestamp {
        self.state().expires_at
    }

    /// Ends the lease, unless it has ended before.
    pub(crate) fn end_with(&self, end: End) {
        // Check the clock first: a lease that expired unnoticed was lost, not released.
        if self.end().is_none() {
            let ended = self.state().validity.end(end);
            self.report_end(ended);
        }
    }

    /// Returns, once, whether the lock counts as held. The caller then counts it less.
    pub(crate) fn uncount(&self) -> bool {
        self.counted.swap(false, Ordering::Relaxed)
    }

    /// Counts the lock less without a release, unless that was done before.
    pub(crate) fn end_count(&self) {
        if self.uncount() {
            self.shared.holds.ended(&self.key, self.mode);
        }
    }

    /// Returns whether an acquire under the id may still be in flight.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.action == Action::Abandon
    }

    /// Keeps the key held for `min_hold` from now on, even if the lock is released earlier. The
    /// grant was made before now.
    pub(crate) fn start_min_hold(&self, min_hold: Duration) {
        // A guard is returned to its caller once.
        let _ = self.keep_until.set(self.now() + min_hold);
    }

    /// Ends the lease at the latest when `max_hold` has passed from now on.
    pub(crate) fn start_max_hold(&self, max_hold: Duration) {
        let until = self.now() + max_hold;
        self.state().validity.start_max_hold(until);
        self.changed.notify_waiters();
    }

    /// Returns until when the key stays held after a release.
    pub(crate) fn keep_until(&self) -> Option<BootInstant> {
        self.keep_until.get().copied()
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.shared.clock.now()
    }

    /// Resolves when the deadline or the ttl changes after this call, or the lease ends.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(crate) fn lock_ref(&self) -> LockRef {
        LockRef::new(self.lock_id, self.key.clone()).with_mode(self.mode)
    }

    /// Starts a background task that releases the lock.
    pub(crate) fn release_in_background(&self) {
        let (key, lock_id, ttl) =
            (self.key.clone(), self.lock_id, self.state().validity.longest_ttl());
        let (mode, counted) = (self.mode, self.uncount());
        let (action, keep_until) = (self.action, self.keep_until());
        let cleanup = Cleanup { key, lock_id, mode, ttl, action, keep_until, counted };
        cleanup.start(&self.shared, &self.home);
    }

    /// Returns the error that explains why the lock is not held.
    pub(crate) fn lost_error(&self) -> Error {
        let why = self
            .loss()
            .map_or_else(|| "its guard released or kept it".to_owned(), |loss| loss.to_string());
        Error::new(ErrorKind::Lost)
            .with_operation(Operation::Hold)
            .with_key(&self.key)
            .with_lock_id(self.lock_id)
            .with_detail(why)
    }

    /// Returns the time left, or `None` if the lock is not held.
    pub(crate) fn time_left(self: &Arc<Self>) -> Option<Duration> {
        self.resume();
        let remaining = self.current_state().validity.remaining(self.shared.clock.now());
        remaining.inspect_err(|end| self.report_end(*end)).ok()
    }

    /// Stores how to restart a task that was stopped with its runtime, for the next use of the
    /// lease on a live runtime.
    pub(crate) fn suspend(&self, restart: Restart) {
        self.state().stopped = Some(restart);
        self.upkeep_stopped.store(true, Ordering::Release);
    }

    /// Continues, on the caller's runtime, the task that was stopped with another runtime.
    fn resume(self: &Arc<Self>) {
        if !self.upkeep_stopped.load(Ordering::Acquire) {
            return;
        }
        if let Ok(here) = self.shared.runtimes.home(Operation::Extend) {
            self.upkeep_stopped.store(false, Ordering::Release);
            let stopped = self.state().stopped.take();
            if let Some(restart) = stopped {
                restart(&here, self);
            }
        }
    }

    fn end(&self) -> Option<End> {
        let end = self.current_state().validity.end_at(self.shared.clock.now());
        end.inspect(|end| self.report_end(*end))
    }

    /// Notifies waiters and telemetry of the end, once.
    fn report_end(&self, end: End) {
        if self.end_reported.swap(true, Ordering::Relaxed) {
            return;
        }
        self.changed.notify_waiters();
        let loss = match end {
            End::Lost(loss) => Some(loss),
            End::Released => None,
        };
        if loss.is_some() {
            self.end_count();
        }
        telemetry::ended(&self.key, self.lock_id, self.fence, &self.held_since, loss);
    }

    /// Returns the state, updated by the store's clock.
    fn current_state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let Some(store_clock) = &self.shared.store_clock {
            let expiry = store_clock.local_expiry(state.expires_at);
            state.validity.set_store_expiry(expiry);
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the state is locked, so it is consistent even if poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LeaseState {
    fn drop(&mut self) {
        // A claim, for example, ends without a release.
        self.end_count();
    }
}

/// Returns the time limit of one extend: half of the time left, because an answer past the deadline
/// is useless and a retry needs time. Near the deadline, where half would be too short for a store
/// under load, it is at least a thirtieth of the ttl.
fn extend_timeout(remaining: Duration, ttl: Ttl) -> Duration {
    (remaining / 2).max(remaining.min(ttl.as_duration() / 30))
}
