use std::{ops::AsyncFnOnce, pin::pin, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    acquisition::{Acquisition, contended},
    attempt::{self, Attempted},
    guard::{LockGuard, TryAcquire},
    lease::Lease,
    options::LockOptions,
    queue::Queues,
    renewal::Renew,
    retry::Retry,
    run::{self, Run},
    scope::Scope,
    shared::Shared,
    timer::Timer,
};
use crate::{
    Error, ErrorKind, LockKey, Mode, Operation, Owner, Ttl,
    telemetry::{self, Done, Ongoing},
};

/// How long a wait lasts unless told otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Describes one use of a lock; ends with [`acquire`](Self::acquire),
/// [`try_acquire`](Self::try_acquire), [`run`](Self::run) or [`try_run`](Self::try_run).
///
/// A value that breaks its rule is reported there, before anything is sent.
///
/// | Setting | Default |
/// | --- | --- |
/// | [`ttl`](Self::ttl) | 30 s |
/// | [`wait`](Self::wait) | 5 s |
/// | [`retry`](Self::retry) | 10 retries, 100 ms doubling up to 2 s, equal jitter |
/// | [`renew`](Self::renew) | every third of the ttl in `run` and `try_run`, never otherwise |
/// | [`min_hold`](Self::min_hold) | none |
/// | [`max_hold`](Self::max_hold) | none |
/// | [`owner`](Self::owner) | that of the [`SyncGuard`](crate::SyncGuard), `host:pid` |
/// | [`mode`](Self::mode) | [`Mode::Exclusive`] |
#[must_use = "a description of a lock locks nothing"]
pub struct LockBuilder {
    shared: Arc<Shared>,
    queues: Queues,
    options: Result<LockOptions, Error>,
    wait: Option<Duration>,
    retry: Option<Retry>,
    /// What cancels the wait, and in `run` the work.
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

    /// Sets how long to wait for the lock at the most, even while a request is on its way. Zero
    /// asks once.
    ///
    /// Without a [`retry`](Self::retry) beside it, the retries are no longer counted: the wait
    /// alone bounds them.
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// Sets when a refused or failed attempt is repeated. The wait bounds it all the same.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry: Some(retry), ..self }
    }

    /// Sets whether the lock is extended while it is held.
    pub fn renew(self, renew: Renew) -> Self {
        self.set(Ok::<_, Error>(renew), |options, renew| options.renew = Some(renew))
    }

    /// Sets how long the key stays taken at the least, from the grant on: a lock that is given back
    /// before that stays with the store until then. So a job that ends quickly is not run again by
    /// a machine whose schedule, or clock, is a little behind.
    ///
    /// It holds for a release and for a drop, and at most for the ttl, which must not be shorter: a
    /// process that dies early leaves the key taken for that long as well. The store's grace comes
    /// on top.
    pub fn min_hold(self, min_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(min_hold), |options, least| options.min_hold = Some(least))
    }

    /// Sets how long the lock is held at the most, whatever the renewals. A lock that is held for
    /// that long counts as [lost](crate::Loss::MaxHold), so that a hung job does not keep it for
    /// ever.
    pub fn max_hold(self, max_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(max_hold), |options, limit| options.max_hold = Some(limit))
    }

    /// Sets the label by which others learn who holds the lock.
    pub fn owner(self, owner: impl TryInto<Owner, Error: Into<Error>>) -> Self {
        self.set(owner.try_into(), |options, owner| options.owner = owner)
    }

    /// Sets whether others may hold the key at the same time.
    pub fn mode(self, mode: Mode) -> Self {
        self.set(Ok::<_, Error>(mode), |options, mode| options.mode = mode)
    }

    /// Gives up, with [`Aborted`](ErrorKind::Aborted), as soon as `token` is cancelled: the wait,
    /// and in `run` the work. A guard is not bound to it; one of a
    /// [`child`](crate::SyncGuard::child) is.
    pub fn cancel_on(self, token: CancellationToken) -> Self {
        Self { cancelled_by: self.cancelled_by.with(token), ..self }
    }

    /// Asks for the lock once.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a value that breaks its rule,
    /// [`Aborted`](ErrorKind::Aborted) where the token was cancelled,
    /// [`Ambiguous`](ErrorKind::Ambiguous) where nobody knows whether the lock was granted (it is
    /// called off in the background), or why the store could not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves nothing behind: a grant that was made or is made later is released in the
    /// background.
    pub async fn try_acquire(self) -> Result<TryAcquire, Error> {
        let acquiring = self.acquiring();
        let result = acquiring.within(pin!(self.ask_once())).await;
        acquiring.end(result)
    }

    async fn ask_once(self) -> Result<TryAcquire, Error> {
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
            Attempted::Granted(guard) => TryAcquire::Acquired(received(guard, &options)),
            Attempted::Contended(holder) => TryAcquire::Contended(holder),
        })
    }

    /// Waits for the lock.
    ///
    /// The tasks of one process that wait for one key form a queue, first come, first served; only
    /// the first of them asks the store. It asks again when the lock is released, when its holder's
    /// grant is over, or when the schedule says so, whichever comes first.
    ///
    /// # Errors
    ///
    /// [`AcquisitionTimeout`](ErrorKind::AcquisitionTimeout) where the wait or the retries are used
    /// up; [`Error::holder`] tells who had the lock. Otherwise as
    /// [`try_acquire`](Self::try_acquire); what may pass is tried again within the wait.
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
            TryAcquire::Acquired(guard) => Ok(guard),
            TryAcquire::Contended(holder) => Err(contended(&key, holder)),
        }
    }

    /// Waits for the lock, runs `work` under it, and releases it.
    ///
    /// **Guarantees:** the lock is renewed while the work runs, every third of the ttl unless
    /// [`renew`](Self::renew) says otherwise. The work is cancelled (its future is dropped) as soon
    /// as the lock is lost; it never runs on knowingly. A panic in the work releases the lock and
    /// goes on. The work is polled in place, so it may borrow, and need not be `Send`.
    ///
    /// A release that fails does not take the work's result away: it is tried again in the
    /// background, and reported to
    /// [`on_release_error`](crate::SyncGuardBuilder::on_release_error).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); and [`Lost`](ErrorKind::Lost) where the lock was lost before
    /// the work had ended. The work may have got anywhere by then, even to its last line.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops the work and releases the lock in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, Fence, SyncGuard};
    /// # async fn charge(fence: Fence) -> u32 { 7 }
    /// # async fn example(locks: SyncGuard) -> Result<(), Error> {
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

    /// Runs `work` under the lock if it is to be had at once, and leaves it otherwise.
    ///
    /// Otherwise as [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire) and [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn try_run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<Run<T>, Error> {
        let running = telemetry::running(self.key());
        let result = running.within(self.try_and_run(work)).await;
        running.end(result)
    }

    async fn try_and_run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<Run<T>, Error> {
        let this = self.renewing();
        let cancelled_by = this.cancelled_by.clone();
        match this.try_acquire().await? {
            TryAcquire::Acquired(guard) => run::run(guard, work, cancelled_by).await.map(Run::Ran),
            TryAcquire::Contended(holder) => Ok(Run::Skipped(holder)),
        }
    }

    fn acquiring(&self) -> Ongoing {
        let mode = self.options.as_ref().map_or_else(|_| Mode::default(), |options| options.mode);
        telemetry::acquiring(&self.shared.clock, self.key(), mode)
    }

    /// Returns the key, if it keeps its rule.
    pub(crate) fn key(&self) -> Option<&LockKey> {
        self.options.as_ref().ok().map(|options| &options.key)
    }

    /// Renews unless told otherwise.
    pub(crate) fn renewing(self) -> Self {
        self.set(Ok::<_, Error>(Renew::Auto), |options, auto| {
            options.renew.get_or_insert(auto);
        })
    }

    /// Applies a setting; the first value that breaks its rule is the one that is reported.
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
/// at once, because no work was done under it.
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
