use std::{fmt, ops::AsyncFnOnce, pin::pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    acquisition::contended,
    all_guard::{LockAllGuard, TryAcquireAllOutcome},
    all_lease::LockAllLease,
    builder::{DEFAULT_WAIT, LockBuilder, default_retry},
    guard::TryAcquireOutcome,
    options::LockOptions,
    queue::Queues,
    renewal::Renew,
    retry::Retry,
    run::{self, RunOutcome},
    scope::Scope,
    shared::Shared,
    taken::{Taken, release_all},
};
use crate::{
    Error, InvalidValue, LockKey, Owner, Ttl,
    telemetry::{self, WorkOutput},
    value::invalid::Invalid,
};

/// Configures one use of the locks on several keys. Finish with [`acquire`](Self::acquire),
/// [`try_acquire`](Self::try_acquire), [`run`](Self::run) or [`try_run`](Self::try_run).
///
/// The settings and their defaults are those of a [`LockBuilder`]. These methods report an invalid
/// value before any request is sent.
///
/// **Guarantees:** all or nothing. A call that does not return a guard leaves none of the keys
/// locked: not after a timeout, contention, an error or a panic, and not if its future is dropped.
/// What it had taken by then is released in the background.
///
/// # Order
///
/// The keys are acquired one after the other, ordered by the bytes of their
/// [normalised](LockKey) text. The order is the same in every process, so calls of `lock_all` never
/// wait for each other in a circle, whatever order their keys were given in. (In a circle, each
/// call would wait for a key that the next one holds. It holds only keys that are less than the one
/// for which it waits, so these keys would become greater all the way around.)
///
/// That does not include other locks that the caller holds at the same time. A task that holds a
/// lock and then waits for `lock_all` must keep to the order itself, or acquire all of its keys
/// together.
///
/// # Cost
///
/// One acquire for each key if all are free, and no request more. While a later key is waited for,
/// those already taken are renewed, by the future itself and without tasks. A future that is left
/// unpolled therefore keeps them for one ttl at most. Poll it or drop it.
#[must_use = "a builder acquires no lock until `acquire`, `try_acquire`, `run` or `try_run`"]
pub struct LockAllBuilder {
    /// The settings, in a builder for the first key.
    settings: LockBuilder,
    /// In order, each once. Not empty, unless `settings` contain the error that says so.
    keys: Vec<LockKey>,
}

impl LockAllBuilder {
    /// The greatest number of different keys: 256.
    ///
    /// The keys are acquired one after the other, so more of them take longer than a lock should be
    /// held for no one, and every renewal interval costs a request for each. A set that may be
    /// larger is better protected by one key that stands for all of it.
    pub const MAX_KEYS: usize = 256;

    /// `builder` creates the builder for one key, whose settings apply to all of them.
    pub(crate) fn new(
        keys: impl IntoIterator<Item: TryInto<LockKey, Error: Into<Error>>>,
        builder: impl FnOnce(Result<LockKey, Error>) -> LockBuilder,
    ) -> Self {
        match sorted(keys) {
            Ok((first, keys)) => Self { settings: builder(Ok(first)), keys },
            Err(error) => Self { settings: builder(Err(error)), keys: Vec::new() },
        }
    }

    /// Sets how long the grant of each key lasts unless it is extended, as
    /// [`LockBuilder::ttl`] does.
    pub fn ttl(self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Self {
        self.set(|settings| settings.ttl(ttl))
    }

    /// Sets how long to wait for all of the locks together at most, even while a request is in
    /// flight. With zero, one attempt is made for each key.
    ///
    /// The wait may be longer than the ttl: keys that were already acquired are renewed meanwhile.
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
    /// let _held = locks.lock("account:2").acquire().await?;
    /// let both = locks.lock_all(["account:1", "account:2"]).wait(50.millis());
    /// assert_eq!(both.acquire().await.unwrap_err().kind(), ErrorKind::AcquisitionTimeout);
    /// # Ok(()) }
    /// ```
    pub fn wait(self, wait: Duration) -> Self {
        self.set(|settings| settings.wait(wait))
    }

    /// Sets when an attempt that failed or found a lock held is repeated, as
    /// [`LockBuilder::retry`] does. The schedule starts again, and its retries are counted, for
    /// each key.
    pub fn retry(self, retry: Retry) -> Self {
        self.set(|settings| settings.retry(retry))
    }

    /// Sets whether the locks are extended while they are held, as [`LockBuilder::renew`] does.
    ///
    /// While later keys are waited for, those already acquired are extended in any case: as set here,
    /// or as with [`Renew::Auto`].
    pub fn renew(self, renew: Renew) -> Self {
        self.set(|settings| settings.renew(renew))
    }

    /// Sets the minimum time for which the keys stay held, as [`LockBuilder::min_hold`] does,
    /// counted from when all of them are held. Keys of a call that does not return a guard are
    /// released immediately.
    pub fn min_hold(self, min_hold: Duration) -> Self {
        self.set(|settings| settings.min_hold(min_hold))
    }

    /// Sets how long the locks are held at most, as [`LockBuilder::max_hold`] does, counted from
    /// when all of them are held.
    pub fn max_hold(self, max_hold: Duration) -> Self {
        self.set(|settings| settings.max_hold(max_hold))
    }

    /// Sets the label that identifies the holder of each key to other clients, as
    /// [`LockBuilder::owner`] does.
    pub fn owner(self, owner: impl TryInto<Owner, Error: Into<Error>>) -> Self {
        self.set(|settings| settings.owner(owner))
    }

    /// Cancels the wait, and in `run` the work, with [`Aborted`](crate::ErrorKind::Aborted) as soon as
    /// `token` is cancelled, as [`LockBuilder::cancel_on`] does.
    pub fn cancel_on(self, token: CancellationToken) -> Self {
        self.set(|settings| settings.cancel_on(token))
    }

    /// Attempts to acquire each lock once, in order, up to the first that another holder has.
    ///
    /// If there is one, the locks that were acquired before it are released before this call
    /// returns.
    ///
    /// # Errors
    ///
    /// As [`LockBuilder::try_acquire`], for the first key that failed; and
    /// [`AcquisitionTimeout`](crate::ErrorKind::AcquisitionTimeout) if a lock was lost before the last one
    /// was granted.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no lock is left behind: grants that were made, or are made later,
    /// are released in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::TryAcquireAllOutcome;
    ///
    /// match locks.lock_all(["account:1", "account:2"]).try_acquire().await? {
    ///     TryAcquireAllOutcome::Acquired(guard) => {
    ///         assert!(guard.is_valid());
    ///         guard.release().await?;
    ///     }
    ///     TryAcquireAllOutcome::Contended { key, holder } => println!("{key}: {holder:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn try_acquire(self) -> Result<TryAcquireAllOutcome, Error> {
        let set = self.checked()?;
        let mut taken = set.none_taken();
        for key in &set.keys {
            let attempt = pin!(set.lock(key).try_acquire());
            let attempt = taken.renewed_during(attempt).await;
            match attempt.map_err(|lost| taken.lost_error(lost))?? {
                TryAcquireOutcome::Acquired(guard) => taken.push(guard),
                TryAcquireOutcome::Contended(holder) => {
                    // Awaited: otherwise the caller's next attempt could meet its own locks. Of a
                    // release that fails, a background task takes care.
                    let _ = release_all(taken.into_guards()).await;
                    return Ok(TryAcquireAllOutcome::Contended { key: key.clone(), holder });
                }
            }
        }
        taken.check().map_err(|lost| taken.lost_error(lost))?;
        let guard = LockAllGuard::new(taken.into_guards(), &set.options);
        Ok(TryAcquireAllOutcome::Acquired(guard))
    }

    /// Waits for all of the locks.
    ///
    /// They are acquired in [order](Self#order), each as [`LockBuilder::acquire`] does, and renewed
    /// until the last one is granted. If one of them is lost before that, it and those after it are
    /// acquired again within the wait: no work was done under it yet.
    ///
    /// The grants were made at different times, so after a wait the guard's
    /// [`remaining`](LockAllLease::remaining) may be shorter than that of a single lock, by up to
    /// the interval of the renewals. If renewals are enabled, one follows immediately.
    ///
    /// # Errors
    ///
    /// [`AcquisitionTimeout`](crate::ErrorKind::AcquisitionTimeout) if the wait or the retries are
    /// exhausted; the error names the key that could not be acquired, and [`Error::holder`] its
    /// holder. Otherwise as [`try_acquire`](Self::try_acquire); transient errors are retried within
    /// the wait.
    ///
    /// # Cancel safety
    ///
    /// As [`try_acquire`](Self::try_acquire); the place in the queue is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # async fn transfer() {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::DurationExt;
    ///
    /// let guard = locks.lock_all(["account:1", "account:2"]).wait(10.secs()).acquire().await?;
    /// transfer().await;
    /// guard.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn acquire(self) -> Result<LockAllGuard, Error> {
        let wait = self.settings.wait.unwrap_or(DEFAULT_WAIT);
        if wait.is_zero() {
            return match self.try_acquire().await? {
                TryAcquireAllOutcome::Acquired(guard) => Ok(guard),
                TryAcquireAllOutcome::Contended { key, holder } => Err(contended(&key, holder)),
            };
        }
        let set = self.checked()?;
        let deadline = Instant::now().checked_add(wait);
        let mut taken = set.none_taken();
        // A lease is lost only after a renewal was due or most of its ttl has passed, so beginning
        // again is no busy loop.
        loop {
            let step = match set.keys.get(taken.len()) {
                Some(key) => {
                    let granted = pin!(set.lock(key).wait(left(deadline)).acquire());
                    taken.renewed_during(granted).await
                }
                None => match taken.check() {
                    Ok(()) => return Ok(LockAllGuard::new(taken.into_guards(), &set.options)),
                    Err(lost) => Err(lost),
                },
            };
            match step {
                Ok(granted) => taken.push(granted?),
                Err(lost) => taken.drop_from(lost),
            }
        }
    }

    /// Waits for all of the locks, runs `work` under them, and releases them.
    ///
    /// **Guarantees:** those of [`LockBuilder::run`], for each key. All locks are renewed while the
    /// work runs, and the work is cancelled as soon as one of them is lost.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); and [`Lost`](crate::ErrorKind::Lost) if a lock was lost before the
    /// work had ended; the error names its key. Any part of the work may have been done by then,
    /// even all of it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the work is dropped and the locks are released in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, Fence, LockManager, NullBackend};
    /// # async fn transfer(from: Fence, to: Fence) -> u32 { 7 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let receipt = locks.lock_all(["account:1", "account:2"]).run(async |lease| {
    ///     Ok::<_, Error>(transfer(lease.fence("account:1")?, lease.fence("account:2")?).await)
    /// }).await??;
    /// assert_eq!(receipt, 7);
    /// # Ok(()) }
    /// ```
    pub async fn run<T>(self, work: impl AsyncFnOnce(LockAllLease) -> T) -> Result<T, Error> {
        let running = telemetry::running(None);
        let done = running.within(self.wait_and_run(work)).await;
        running.end(done).map(|WorkOutput(value)| value)
    }

    async fn wait_and_run<T>(
        self,
        work: impl AsyncFnOnce(LockAllLease) -> T,
    ) -> Result<WorkOutput<T>, Error> {
        let this = self.set(LockBuilder::renewing);
        let cancelled_by = this.settings.cancelled_by.clone();
        let guard = this.acquire().await?;
        run::run(guard, work, cancelled_by).await.map(WorkOutput)
    }

    /// Runs `work` if all of the locks can be acquired immediately; otherwise returns `Skipped` with
    /// the holder of the first key that another holder has.
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
    /// # async fn compact() -> u32 { 3 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::RunOutcome;
    ///
    /// match locks.lock_all(["shard:1", "shard:2"]).try_run(async |_| compact().await).await? {
    ///     RunOutcome::Completed(files) => assert_eq!(files, 3),
    ///     RunOutcome::Skipped(holder) => println!("skipped, held by {holder:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn try_run<T>(
        self,
        work: impl AsyncFnOnce(LockAllLease) -> T,
    ) -> Result<RunOutcome<T>, Error> {
        let running = telemetry::running(None);
        let result = running.within(self.try_and_run(work)).await;
        running.end(result)
    }

    async fn try_and_run<T>(
        self,
        work: impl AsyncFnOnce(LockAllLease) -> T,
    ) -> Result<RunOutcome<T>, Error> {
        let this = self.set(LockBuilder::renewing);
        let cancelled_by = this.settings.cancelled_by.clone();
        match this.try_acquire().await? {
            TryAcquireAllOutcome::Acquired(guard) => {
                run::run(guard, work, cancelled_by).await.map(RunOutcome::Completed)
            }
            TryAcquireAllOutcome::Contended { holder, .. } => Ok(RunOutcome::Skipped(holder)),
        }
    }

    fn set(self, set: impl FnOnce(LockBuilder) -> LockBuilder) -> Self {
        Self { settings: set(self.settings), ..self }
    }

    fn checked(self) -> Result<KeySet, Error> {
        let LockBuilder { shared, queues, options, wait, retry, cancelled_by } = self.settings;
        let options = options?.checked()?;
        let retry = retry.unwrap_or_else(|| default_retry(wait));
        Ok(KeySet { shared, queues, options, retry, cancelled_by, keys: self.keys })
    }
}

impl fmt::Debug for LockAllBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockAllBuilder")
            .field("keys", &self.keys)
            .field("wait", &self.settings.wait)
            .finish_non_exhaustive()
    }
}

/// The keys of one call, and the checked settings that apply to each of them.
struct KeySet {
    shared: Arc<Shared>,
    queues: Queues,
    options: LockOptions,
    retry: Retry,
    cancelled_by: Scope,
    keys: Vec<LockKey>,
}

impl KeySet {
    fn none_taken(&self) -> Taken {
        Taken::new(self.keys.len(), self.options.renew)
    }

    /// Returns a builder for the lock on one key, without the options that apply once all keys are
    /// held. The scope need not cancel the lock before that, because it cancels the wait.
    fn lock(&self, key: &LockKey) -> LockBuilder {
        let options = LockOptions {
            key: key.clone(),
            renew: None,
            min_hold: None,
            max_hold: None,
            scope: Scope::default(),
            ..self.options.clone()
        };
        LockBuilder {
            shared: self.shared.clone(),
            queues: self.queues.clone(),
            options: Ok(options),
            wait: None,
            retry: Some(self.retry.clone()),
            cancelled_by: self.cancelled_by.clone(),
        }
    }
}

/// Returns the first key, and all of them in the order in which they are acquired, each once.
///
/// **Invariant:** every process acquires the keys of a set in the order of the bytes of their
/// normalised text. Another order in a later version could form circles with this one.
fn sorted(
    keys: impl IntoIterator<Item: TryInto<LockKey, Error: Into<Error>>>,
) -> Result<(LockKey, Vec<LockKey>), Error> {
    let limit = LockAllBuilder::MAX_KEYS;
    let keys = keys.into_iter().map(|key| key.try_into().map_err(Into::into));
    let mut keys = keys.collect::<Result<Vec<LockKey>, Error>>()?;
    keys.sort_unstable();
    keys.dedup();
    if keys.len() > limit {
        return Err(InvalidValue::from(Invalid::ManyKeys { limit }).into());
    }
    let first = keys.first().ok_or(InvalidValue::from(Invalid::NoKeys { limit }))?.clone();
    Ok((first, keys))
}

/// Returns what is left of a wait. Not zero, because a wait of zero makes an attempt that it does
/// not bound.
fn left(deadline: Option<Instant>) -> Duration {
    let left = deadline.map_or(Duration::MAX, |deadline| deadline - Instant::now());
    left.max(Duration::from_nanos(1))
}
