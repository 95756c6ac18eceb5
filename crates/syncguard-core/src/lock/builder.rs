use std::{ops::AsyncFnOnce, pin::pin, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    acquisition::{Acquisition, contended},
    attempt::{self, Attempted},
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
    Error, ErrorKind, LockKey, Mode, Operation, Owner, Ttl,
    telemetry::{self, Done, Ongoing},
};

/// The default limit of a wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Configures one use of a lock. Finish with [`acquire`](Self::acquire),
/// [`try_acquire`](Self::try_acquire), [`run`](Self::run) or [`try_run`](Self::try_run).
///
/// These methods report an invalid value before any request is sent.
///
/// | Setting | Default |
/// | --- | --- |
/// | [`ttl`](Self::ttl) | 30 s |
/// | [`wait`](Self::wait) | 5 s |
/// | [`retry`](Self::retry) | 10 retries, 100 ms doubling up to 2 s, equal jitter |
/// | [`renew`](Self::renew) | every third of the ttl in `run` and `try_run`, never otherwise |
/// | [`min_hold`](Self::min_hold) | none |
/// | [`max_hold`](Self::max_hold) | none |
/// | [`owner`](Self::owner) | that of the [`LockManager`](crate::LockManager), `host:pid` |
/// | [`mode`](Self::mode) | [`Mode::Exclusive`] |
#[must_use = "a description of a lock locks nothing"]
pub struct LockBuilder {
    shared: Arc<Shared>,
    queues: Queues,
    options: Result<LockOptions, Error>,
    wait: Option<Duration>,
    retry: Option<Retry>,
    /// Cancels the wait, and in `run` the work.
    cancelled_by: Scope,
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
    pub fn ttl(self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Self {
        self.set(ttl.try_into(), |options, ttl| options.ttl = ttl)
    }

    /// Sets how long to wait for the lock at most, even while a request is in flight. With zero,
    /// the store is asked once.
    ///
    /// If [`retry`](Self::retry) is not set as well, the number of retries is unlimited and only
    /// the wait bounds them.
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// Sets when a refused or failed attempt is repeated. The wait still bounds all attempts
    /// together.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry: Some(retry), ..self }
    }

    /// Sets whether the lock is extended while it is held.
    pub fn renew(self, renew: Renew) -> Self {
        self.set(Ok::<_, Error>(renew), |options, renew| options.renew = Some(renew))
    }

    /// Sets how long the key stays taken at least, counted from the grant. A lock that is released
    /// earlier stays with the store until then. This prevents a short job from being run again by a
    /// machine whose schedule or clock is slightly behind.
    ///
    /// It applies to a release and to a drop. It is bounded by the ttl, which must not be shorter,
    /// so a process that dies early leaves the key taken for that long as well. The store's grace
    /// is added to it.
    pub fn min_hold(self, min_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(min_hold), |options, least| options.min_hold = Some(least))
    }

    /// Sets how long the lock is held at most, regardless of renewals. After that time the lock
    /// counts as [lost](crate::Loss::MaxHold), so that a hung job does not keep it indefinitely.
    pub fn max_hold(self, max_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(max_hold), |options, limit| options.max_hold = Some(limit))
    }

    /// Sets the label that identifies the holder to others.
    pub fn owner(self, owner: impl TryInto<Owner, Error: Into<Error>>) -> Self {
        self.set(owner.try_into(), |options, owner| options.owner = owner)
    }

    /// Sets whether others may hold the key at the same time.
    pub fn mode(self, mode: Mode) -> Self {
        self.set(Ok::<_, Error>(mode), |options, mode| options.mode = mode)
    }

    /// Cancels the wait, and in `run` the work, with [`Aborted`](ErrorKind::Aborted) as soon as
    /// `token` is cancelled. The token does not affect a guard; to cancel guards, use a
    /// [`child`](crate::LockManager::child).
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
    pub async fn try_acquire(self) -> Result<TryAcquireOutcome, Error> {
        let acquiring = self.acquiring();
        let result = acquiring.within(pin!(self.ask_once())).await;
        acquiring.end(result)
    }

    async fn ask_once(self) -> Result<TryAcquireOutcome, Error> {
        let Self { shared, options, cancelled_by, .. } = self;
        let options = options?.checked()?;
        let home = shared.runtimes.home(Operation::Acquire)?;
        let attempt = attempt::start(&shared, &options, &home);
        let attempted = tokio::select! {
            biased;
            () = cancelled_by.ended() => return Err(aborted(&options.key)),
            attempted = attempt => attempted?,
        };
        Ok(match attempted {
            Attempted::Granted(guard) => TryAcquireOutcome::Acquired(received(guard, &options)),
            Attempted::Contended(holder) => TryAcquireOutcome::Contended(holder),
        })
    }

    /// Waits for the lock.
    ///
    /// Tasks of one process that wait for the same key form a first-come, first-served queue, and
    /// only the first of them sends requests to the store. It tries again when the lock is
    /// released, when the holder's grant is over, or when the schedule is due, whichever comes
    /// first.
    ///
    /// # Errors
    ///
    /// [`AcquisitionTimeout`](ErrorKind::AcquisitionTimeout) if the wait or the retries are used
    /// up; [`Error::holder`] returns the holder. Otherwise as [`try_acquire`](Self::try_acquire);
    /// transient errors are retried within the wait.
    ///
    /// # Cancel safety
    ///
    /// As [`try_acquire`](Self::try_acquire); the place in the queue is lost.
    pub async fn acquire(self) -> Result<LockGuard, Error> {
        let acquiring = self.acquiring();
        let result = acquiring.within(pin!(self.wait_for_it())).await;
        acquiring.end(result)
    }

    async fn wait_for_it(self) -> Result<LockGuard, Error> {
        if self.wait == Some(Duration::ZERO) {
            return self.acquire_at_once().await;
        }
        let Self { shared, queues, options, wait, retry, cancelled_by } = self;
        let options = options?.checked()?;
        let home = shared.runtimes.home(Operation::Acquire)?;
        let retry = retry.unwrap_or_else(|| match wait {
            Some(_) => Retry::default().unlimited(),
            None => Retry::default(),
        });
        let mut acquisition = Acquisition::new(&shared, &queues, &options, home);
        tokio::select! {
            biased;
            () = cancelled_by.ended() => return Err(aborted(&options.key)),
            // Before the attempts, which could use up the task's budget each time it is polled.
            () = Timer::after(wait.unwrap_or(DEFAULT_WAIT)) => {}
            result = acquisition.run(&retry) => return result.map(|guard| received(guard, &options)),
        }
        Err(acquisition.given_up())
    }

    async fn acquire_at_once(self) -> Result<LockGuard, Error> {
        let options = self.options?;
        let key = options.key.clone();
        match (Self { options: Ok(options), ..self }).ask_once().await? {
            TryAcquireOutcome::Acquired(guard) => Ok(guard),
            TryAcquireOutcome::Contended(holder) => Err(contended(&key, holder)),
        }
    }

    /// Waits for the lock, runs `work` under it, and releases it.
    ///
    /// **Guarantees:** the lock is renewed while the work runs, by default every third of the ttl
    /// (see [`renew`](Self::renew)). The work is cancelled (its future is dropped) as soon as the
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
        running.end(done).map(|Done(value)| value)
    }

    async fn wait_and_run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<Done<T>, Error> {
        let this = self.renewing();
        let cancelled_by = this.cancelled_by.clone();
        let guard = this.acquire().await?;
        run::run(guard, work, cancelled_by).await.map(Done)
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

    fn acquiring(&self) -> Ongoing {
        let mode = self.options.as_ref().map_or_else(|_| Mode::default(), |options| options.mode);
        telemetry::acquiring(&self.shared.clock, self.key(), mode)
    }

    /// Returns the key if it is valid.
    pub(crate) fn key(&self) -> Option<&LockKey> {
        self.options.as_ref().ok().map(|options| &options.key)
    }

    /// Enables renewal by default.
    pub(crate) fn renewing(self) -> Self {
        self.set(Ok::<_, Error>(Renew::Auto), |options, auto| {
            options.renew.get_or_insert(auto);
        })
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

/// Starts `min_hold`: the guard has reached its caller. A guard that reaches no caller is released
/// immediately, because no work was done under it.
fn received(guard: LockGuard, options: &LockOptions) -> LockGuard {
    if let Some(min_hold) = options.min_hold {
        guard.keep_for(min_hold);
    }
    guard
}

fn aborted(key: &LockKey) -> Error {
    Error::new(ErrorKind::Aborted, Operation::Acquire).with_key(key)
}

impl std::fmt::Debug for LockBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockBuilder")
            .field("key", &self.options.as_ref().map(|options| &options.key))
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
