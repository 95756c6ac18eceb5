use std::{
    future::{Future, poll_fn},
    num::NonZeroU32,
    ops::AsyncFnOnce,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    acquisition::{Acquisition, contended},
    attempt::{self, AttemptOutcome},
    guard::{LockGuard, TryAcquireOutcome},
    lease::Lease,
    options::LockOptions,
    queue::Queues,
    renewal::Renew,
    retry::Retry,
    run::{self, RunOutcome},
    scope::Scope,
    shared::Shared,
    timer::Timer,
};
use crate::{
    Error, ErrorKind, InvalidValue, LockKey, Operation, Owner, Ttl,
    backend::Mode,
    telemetry::{self, OperationSpan, WorkOutput},
    value::invalid::Invalid,
};

/// The default limit of a wait.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Configures one use of a lock. Finish with [`acquire`](Self::acquire),
/// [`try_acquire`](Self::try_acquire), [`run`](Self::run) or [`try_run`](Self::try_run).
///
/// These methods report an invalid value before any request is sent.
///
/// | Setting | Default |
/// | --- | --- |
/// | [`ttl`](Self::ttl) | 30 s |
/// | [`wait`](Self::wait) | 5 s |
/// | [`retry`](Self::retry) | 10 retries, 100 ms doubling up to 2 s, or 15 s while the store notifies of releases, equal jitter |
/// | [`renew`](Self::renew) | after a quarter to a third of the ttl in `run` and `try_run`, never otherwise |
/// | [`min_hold`](Self::min_hold) | none |
/// | [`max_hold`](Self::max_hold) | none |
/// | [`owner`](Self::owner) | that of the [`LockManager`](crate::LockManager), `host:pid` |
/// | [`mode`](Self::mode) | [`Mode::Exclusive`] |
/// | [`priority`](Self::priority) | 0 |
#[must_use = "a builder acquires no lock until `acquire`, `try_acquire`, `run` or `try_run`"]
pub struct LockBuilder {
    pub(super) shared: Arc<Shared>,
    pub(super) queues: Queues,
    pub(super) options: Result<LockOptions, Error>,
    pub(super) wait: Option<Duration>,
    pub(super) retry: Option<Retry>,
    /// Cancels the wait, and in `run` the work.
    pub(super) cancelled_by: Scope,
}

impl LockBuilder {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queues: Queues,
        scope: &Scope,
        key: Result<LockKey, Error>,
    ) -> Self {
        let owner = shared.owner.clone();
        let options = key.map(|key| LockOptions::new(key, owner, scope.clone()));
        let cancelled_by = scope.clone();
        Self { shared, queues, options, wait: None, retry: None, cancelled_by }
    }

    /// Sets how long the grant lasts unless it is extended: a [`Ttl`], a [`Duration`] or text such
    /// as `"30s"`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::{DurationExt, ErrorKind};
    ///
    /// let guard = locks.lock("import").ttl("10m").acquire().await?;
    /// assert!(guard.remaining() < 10.mins()); // it ends a margin before the ttl
    ///
    /// let error = locks.lock("import").ttl("soon").acquire().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    /// # Ok(()) }
    /// ```
    pub fn ttl(self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Self {
        self.set(ttl.try_into(), |options, ttl| options.ttl = ttl)
    }

    /// Sets how long to wait for the lock at most, even while a request is in flight. With zero,
    /// one attempt is made.
    ///
    /// If [`retry`](Self::retry) is not set as well, the number of retries is unlimited and only
    /// the wait bounds them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::{DurationExt, ErrorKind};
    ///
    /// let _held = locks.lock("report").acquire().await?;
    /// let error = locks.lock("report").wait(50.millis()).acquire().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::AcquisitionTimeout);
    /// # Ok(()) }
    /// ```
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// Sets when an attempt that failed or found the lock held is repeated. The wait still bounds
    /// all attempts together.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::{DurationExt, Retry};
    ///
    /// let retry = Retry::fixed(10.millis()).limit(3);
    /// let guard = locks.lock("report").retry(retry).acquire().await?;
    /// # Ok(()) }
    /// ```
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry: Some(retry), ..self }
    }

    /// Sets whether the lock is extended while it is held.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # async fn import() {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::Renew;
    ///
    /// let guard = locks.lock("import").ttl("1m").renew(Renew::Auto).acquire().await?;
    /// import().await; // may take longer than the ttl: the lock is extended every 15 to 20 s
    /// assert!(guard.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn renew(self, renew: Renew) -> Self {
        self.set(Ok::<_, Error>(renew), |options, renew| options.renew = Some(renew))
    }

    /// Sets the minimum time for which the key stays held, counted from the grant. A lock that is
    /// released earlier stays with the store until then. This prevents a short job from being run
    /// again by a machine whose schedule or clock is slightly behind.
    ///
    /// It applies to a release and to a drop. It is bounded by the ttl, which must not be shorter,
    /// so a process that dies early leaves the key held for that long as well. The store's grace
    /// is added to it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn job() {}
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::DurationExt;
    ///
    /// locks.lock("cron:hourly").ttl("10m").min_hold(1.mins()).run(async |_| job().await).await?;
    /// assert!(locks.is_locked("cron:hourly").await?); // until the minute has passed
    /// # Ok(()) }
    /// ```
    pub fn min_hold(self, min_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(min_hold), |options, min_hold| options.min_hold = Some(min_hold))
    }

    /// Sets how long the lock is held at most, regardless of renewals. After that time the lock
    /// counts as [lost](crate::Loss::MaxHold), so that a hung job does not keep it indefinitely.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use syncguard_core::{DurationExt, LockManager, Loss, ManualClock, NullBackend};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let clock = Arc::new(ManualClock::default());
    /// let locks = LockManager::builder(NullBackend::default()).clock(clock.clone()).build();
    /// let guard = locks.lock("import").ttl("10m").max_hold(1.mins()).acquire().await?;
    /// clock.advance(1.mins());
    /// assert_eq!(guard.loss(), Some(Loss::MaxHold));
    /// # Ok(()) }
    /// ```
    pub fn max_hold(self, max_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(max_hold), |options, limit| options.max_hold = Some(limit))
    }

    /// Sets the label that identifies the holder to other clients.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::TryAcquireOutcome;
    ///
    /// let _held = locks.lock("deploy:prod").owner("ci-7").acquire().await?;
    /// let attempt = locks.lock("deploy:prod").try_acquire().await?;
    /// if let TryAcquireOutcome::Contended(Some(holder)) = attempt {
    ///     assert_eq!(holder.owner.unwrap().as_str(), "ci-7");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn owner(self, owner: impl TryInto<Owner, Error: Into<Error>>) -> Self {
        self.set(owner.try_into(), |options, owner| options.owner = owner)
    }

    /// Acquires the lock as a reader: any number of holders share the key, and none of them holds it
    /// at the same time as a writer, which is a holder that acquired it without this.
    ///
    /// Readers that arrive while a writer waits are let in after it, so that it is not shut out.
    /// Fences cannot order holders that share a key; a check of fences at a resource rejects theirs.
    ///
    /// # Errors
    ///
    /// When it is acquired, [`Unsupported`](ErrorKind::Unsupported) if the backend's
    /// [capabilities](crate::LockManager::capabilities) do not include shared mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let reader = locks.lock("data:users").shared().acquire().await?;
    /// let other = locks.lock("data:users").shared().acquire().await?;
    /// assert!(locks.lock("data:users").try_acquire().await?.acquired().is_none());
    /// # Ok(()) }
    /// ```
    pub fn shared(self) -> Self {
        self.mode(Mode::SHARED)
    }

    /// Acquires one of `permits` that may hold the key at the same time.
    pub(super) fn permits(self, permits: u32) -> Self {
        let permits = NonZeroU32::new(permits).ok_or(Invalid::NoPermits);
        let permits = permits.map_err(InvalidValue::from);
        self.set(permits, |options, permits| {
            options.mode = Mode::Shared { permits: Some(permits) };
        })
    }

    /// Sets the priority among the waiters of this process, 0 by default. A higher one goes first.
    ///
    /// A level counts as much as a second of waiting. So a waiter with priority 5 goes before those
    /// with priority 0 that have waited for less than five seconds longer, and none is overtaken
    /// for ever. When the key becomes free, it goes before a waiter that has asked the store already.
    /// Waiters of other processes are not affected.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let urgent = locks.lock("printer").priority(10).acquire().await?;
    /// # Ok(()) }
    /// ```
    pub fn priority(self, priority: i32) -> Self {
        self.set(Ok::<_, Error>(priority), |options, priority| options.priority = priority)
    }

    /// Sets whether other holders may hold the key at the same time, and how many.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::backend::Mode;
    ///
    /// assert!(locks.capabilities().shared);
    /// let one = locks.lock("data:users").mode(Mode::SHARED).acquire().await?;
    /// let other = locks.lock("data:users").mode(Mode::SHARED).acquire().await?;
    /// assert!(one.is_valid() && other.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn mode(self, mode: Mode) -> Self {
        self.set(Ok::<_, Error>(mode), |options, mode| options.mode = mode)
    }

    /// Cancels the wait, and in `run` the work, with [`Aborted`](ErrorKind::Aborted) as soon as
    /// `token` is cancelled. The token does not affect a guard; to cancel guards, use a
    /// [`child`](crate::LockManager::child).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::ErrorKind;
    /// use tokio_util::sync::CancellationToken;
    ///
    /// let token = CancellationToken::new();
    /// token.cancel();
    /// let cancelled = locks.lock("report").cancel_on(token).acquire().await.unwrap_err();
    /// assert_eq!(cancelled.kind(), ErrorKind::Aborted);
    /// # Ok(()) }
    /// ```
    pub fn cancel_on(self, token: CancellationToken) -> Self {
        Self { cancelled_by: self.cancelled_by.with(token), ..self }
    }

    /// Attempts to acquire the lock once.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if a value is invalid,
    /// [`Aborted`](ErrorKind::Aborted) if the token was cancelled,
    /// [`Ambiguous`](ErrorKind::Ambiguous) if it is unknown whether the lock was granted (the
    /// attempt is abandoned in the background), or the reason why the store could not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no lock is left behind: a grant that was made, or is made later,
    /// is released in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::TryAcquireOutcome;
    ///
    /// match locks.lock("deploy:prod").try_acquire().await? {
    ///     TryAcquireOutcome::Acquired(guard) => {
    ///         assert_eq!(guard.fence()?.number(), 1);
    ///         guard.release().await?;
    ///     }
    ///     TryAcquireOutcome::Contended(Some(holder)) => println!("skipped: {holder}"),
    ///     TryAcquireOutcome::Contended(None) => println!("skipped: another holder has the lock"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn try_acquire(self) -> Result<TryAcquireOutcome, Error> {
        let acquiring = self.acquiring();
        let result = acquiring.within(pin!(self.attempt_once())).await;
        acquiring.end(result)
    }

    async fn attempt_once(self) -> Result<TryAcquireOutcome, Error> {
        let Self { shared, options, cancelled_by, .. } = self;
        let options = options?.checked()?;
        let home = shared.runtimes.home(Operation::Acquire)?;
        let attempt = attempt::start(&shared, &options, None, &home);
        let outcome = tokio::select! {
            biased;
            () = cancelled_by.cancelled() => return Err(aborted(&options.key)),
            outcome = attempt => outcome?,
        };
        Ok(match outcome {
            AttemptOutcome::Granted(guard) => {
                TryAcquireOutcome::Acquired(start_min_hold(guard, &options))
            }
            AttemptOutcome::Contended(holder) => TryAcquireOutcome::Contended(holder),
        })
    }

    /// Waits for the lock.
    ///
    /// Tasks of one process that wait for the same key form a queue, first come, first served unless
    /// their [priority](Self::priority) differs, and only the first of them sends requests to the
    /// store, with it the readers that may enter together. It retries when the lock is released,
    /// when the holder's grant expires, or when the schedule is due, whichever comes first.
    ///
    /// # Errors
    ///
    /// [`AcquisitionTimeout`](ErrorKind::AcquisitionTimeout) if the wait or the retries are
    /// exhausted; [`Error::holder`] returns the holder. Otherwise as
    /// [`try_acquire`](Self::try_acquire); transient errors are retried within the wait.
    ///
    /// # Cancel safety
    ///
    /// As [`try_acquire`](Self::try_acquire); the place in the queue is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::{DurationExt, ErrorKind};
    ///
    /// match locks.lock("deploy:prod").wait(10.secs()).acquire().await {
    ///     Ok(guard) => assert_eq!(guard.fence()?.number(), 1),
    ///     Err(error) if error.kind() == ErrorKind::AcquisitionTimeout => println!("{error}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn acquire(self) -> Result<LockGuard, Error> {
        let acquiring = self.acquiring();
        let result = acquiring.within(pin!(self.wait_for_lock())).await;
        acquiring.end(result)
    }

    async fn wait_for_lock(self) -> Result<LockGuard, Error> {
        if self.wait == Some(Duration::ZERO) {
            // Boxed, so that those that wait do not carry its size.
            return Box::pin(self.acquire_without_waiting()).await;
        }
        let Self { shared, queues, options, wait, retry, cancelled_by } = self;
        let options = options?.checked()?;
        let home = shared.runtimes.home(Operation::Acquire)?;
        let retry = retry.unwrap_or_else(|| default_retry(wait));
        if cancelled_by.is_cancelled() {
            return Err(aborted(&options.key));
        }
        let mut acquisition = Acquisition::new(&shared, &queues, &options, home);
        let granted = {
            let mut run = pin!(acquisition.run(&retry));
            // A store in this process answers in the first poll, which then costs no timer.
            match poll_fn(|context| Poll::Ready(run.as_mut().poll(context))).await {
                Poll::Ready(result) => Some(result),
                Poll::Pending => tokio::select! {
                    biased;
                    () = cancelled_by.cancelled() => return Err(aborted(&options.key)),
                    // Before the attempts, which could use up the task's budget each time it is
                    // polled.
                    () = Timer::after(wait.unwrap_or(DEFAULT_WAIT)) => None,
                    result = run => Some(result),
                },
            }
        };
        let guard = granted.unwrap_or_else(|| Err(acquisition.timeout_error()))?;
        Ok(start_min_hold(guard, &options))
    }

    async fn acquire_without_waiting(self) -> Result<LockGuard, Error> {
        let options = self.options?;
        let key = options.key.clone();
        match (Self { options: Ok(options), ..self }).attempt_once().await? {
            TryAcquireOutcome::Acquired(guard) => Ok(guard),
            TryAcquireOutcome::Contended(holder) => Err(contended(&key, holder)),
        }
    }

    /// Waits for the lock, runs `work` under it, and releases it.
    ///
    /// **Guarantees:** the lock is renewed while the work runs, by default after a quarter to
    /// a third of the ttl (see [`renew`](Self::renew)). The work is cancelled (its future is dropped) as soon as the
    /// lock is lost; it never knowingly continues without the lock. If the work panics, the lock is
    /// released and the panic is propagated. The work is polled in place, so it may borrow and need
    /// not be `Send`.
    ///
    /// If the release fails, the result of the work is still returned. The release is retried in
    /// the background and reported to
    /// [`on_release_error`](crate::LockManagerBuilder::on_release_error).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); and [`Lost`](ErrorKind::Lost) if the lock was lost before the
    /// work had ended. Any part of the work may have been done by then, even all of it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the work is dropped and the lock is released in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, Fence, LockManager};
    /// # async fn charge(fence: Fence) -> u32 { 7 }
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let receipt = locks.lock("payment:42").run(async |lease| {
    ///     Ok::<_, Error>(charge(lease.fence()?).await)
    /// }).await??;
    /// # Ok(()) }
    /// ```
    pub async fn run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<T, Error> {
        let running = telemetry::running(self.key());
        let done = running.within(self.wait_and_run(work)).await;
        running.end(done).map(|WorkOutput(value)| value)
    }

    async fn wait_and_run<T>(
        self,
        work: impl AsyncFnOnce(Lease) -> T,
    ) -> Result<WorkOutput<T>, Error> {
        let this = self.renewing();
        let cancelled_by = this.cancelled_by.clone();
        let guard = this.acquire().await?;
        run::run(guard, work, cancelled_by).await.map(WorkOutput)
    }

    /// Runs `work` if the lock can be acquired immediately; otherwise returns `Skipped` with the
    /// current holder.
    ///
    /// Apart from that, it behaves as [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire) and [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # async fn report() -> u32 { 3 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::RunOutcome;
    ///
    /// match locks.lock("cron:daily").try_run(async |_| report().await).await? {
    ///     RunOutcome::Completed(lines) => assert_eq!(lines, 3),
    ///     RunOutcome::Skipped(holder) => println!("skipped, held by {holder:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn try_run<T>(
        self,
        work: impl AsyncFnOnce(Lease) -> T,
    ) -> Result<RunOutcome<T>, Error> {
        let running = telemetry::running(self.key());
        let result = running.within(self.try_and_run(work)).await;
        running.end(result)
    }

    async fn try_and_run<T>(
        self,
        work: impl AsyncFnOnce(Lease) -> T,
    ) -> Result<RunOutcome<T>, Error> {
        let this = self.renewing();
        let cancelled_by = this.cancelled_by.clone();
        match this.try_acquire().await? {
            TryAcquireOutcome::Acquired(guard) => {
                run::run(guard, work, cancelled_by).await.map(RunOutcome::Completed)
            }
            TryAcquireOutcome::Contended(holder) => Ok(RunOutcome::Skipped(holder)),
        }
    }

    fn acquiring(&self) -> OperationSpan {
        let mode = self.options.as_ref().map_or_else(|_| Mode::default(), |options| options.mode);
        telemetry::acquiring(&self.shared.clock, self.key(), mode)
    }

    /// Returns the key if it is valid.
    pub(crate) fn key(&self) -> Option<&LockKey> {
        self.options.as_ref().ok().map(|options| &options.key)
    }

    /// Returns what cancels the wait, and in `run` the work.
    pub(super) fn cancelled_by(&self) -> &Scope {
        &self.cancelled_by
    }

    /// Returns a function that creates builders with these settings, or the error of the first
    /// invalid one.
    pub(super) fn repeatable(self) -> Result<impl Fn() -> Self, Error> {
        let Self { shared, queues, options, wait, retry, cancelled_by } = self;
        let options = options?;
        Ok(move || Self {
            shared: shared.clone(),
            queues: queues.clone(),
            options: Ok(options.clone()),
            wait,
            retry: retry.clone(),
            cancelled_by: cancelled_by.clone(),
        })
    }

    /// Enables renewal by default.
    pub(crate) fn renewing(self) -> Self {
        self.set(Ok::<_, Error>(Renew::Auto), |options, auto| {
            options.renew.get_or_insert(auto);
        })
    }

    /// Leaves a key without a fence counter as it is: for claims.
    pub(super) fn without_new_counter(self) -> Self {
        self.set(Ok::<_, Error>(false), |options, creates| options.creates_counter = creates)
    }

    /// Applies a setting. The first invalid value is the one that is reported.
    fn set<V, E: Into<Error>>(
        self,
        value: Result<V, E>,
        apply: impl FnOnce(&mut LockOptions, V),
    ) -> Self {
        let options = self.options.and_then(|mut options| {
            apply(&mut options, value.map_err(Into::into)?);
            Ok(options)
        });
        Self { options, ..self }
    }
}

/// Returns the schedule for a lock that sets none. An explicit wait is bounded by time alone.
pub(super) fn default_retry(wait: Option<Duration>) -> Retry {
    match wait {
        Some(_) => Retry::default().unlimited(),
        None => Retry::default(),
    }
}

/// Starts `min_hold` for a guard that is returned to its caller. A guard that is returned to no
/// caller is released immediately, because no work was done under it.
fn start_min_hold(guard: LockGuard, options: &LockOptions) -> LockGuard {
    if let Some(min_hold) = options.min_hold {
        guard.state().start_min_hold(min_hold);
    }
    guard
}

/// Returns the error for a wait that was cancelled.
fn aborted(key: &LockKey) -> Error {
    Error::new(ErrorKind::Aborted).with_operation(Operation::Acquire).with_key(key)
}

impl std::fmt::Debug for LockBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockBuilder")
            .field("key", &self.options.as_ref().map(|options| &options.key))
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
