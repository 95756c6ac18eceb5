use std::{fmt, ops::Deref, sync::Arc};

use super::{
    lease::Lease,
    lease_state::LeaseState,
    release,
    renewal::{self, Renew, Upkeep},
    scope::Scope,
    validity::{End, Loss},
};
use crate::{
    Error, Holder, ReleaseOutcome,
    telemetry::{Classification, Classify},
};

/// Holds a lock; dropping it releases the lock in the background.
///
/// It dereferences to its [`Lease`], which returns the fence, the remaining time and the loss.
///
/// **Guarantees:** dropping never blocks, never panics and does not require a runtime. If the store
/// cannot be reached, the release is retried until the ttl plus one second has elapsed; by then the
/// grant has expired. A failure is reported to
/// [`on_release_error`](crate::LockManagerBuilder::on_release_error) and `tracing`.
///
/// # Runtimes
///
/// A guard may outlive the runtime on which its lock was acquired. Its methods work on any runtime
/// and, unless the backend needs one, outside every runtime. A drop releases the lock on the
/// [configured](crate::LockManagerBuilder::runtime) runtime, otherwise on the current runtime of
/// the drop, otherwise on the runtime on which the lock was acquired. If that runtime is shut down
/// before the release is done, the release moves to another of them.
///
/// **One case is left to the ttl:** a guard is dropped outside every runtime, and its lock was
/// acquired on a `current_thread` runtime that is no longer driven by a thread. Its release is a
/// task that is never polled. If that runtime is shut down later, the release is reported to
/// `on_release_error`; until then the failure cannot be detected. With a configured runtime that is
/// always driven, such a guard is released immediately:
///
/// ```
/// # use syncguard_core::{LockManager, NullBackend};
/// let background = tokio::runtime::Builder::new_multi_thread()
///     .worker_threads(1)
///     .enable_all()
///     .build()?;
/// let locks = LockManager::builder(NullBackend::default())
///     .runtime(background.handle().clone())
///     .build();
/// let here = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let guard = here.block_on(locks.lock("key").acquire())?;
/// drop(guard); // released on `background`, though nothing drives `here` now
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Examples
///
/// ```
/// # use syncguard_core::{Error, LockManager, NullBackend};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let locks = LockManager::new(NullBackend::default());
/// use syncguard_core::{DurationExt, ShutdownOutcome};
///
/// let guard = locks.lock("upload:9").acquire().await?;
/// assert!(guard.is_valid()); // a method of its `Lease`
/// drop(guard); // released in the background
/// assert_eq!(locks.shutdown(10.secs()).await, ShutdownOutcome::Drained);
/// # Ok(()) }
/// ```
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct LockGuard {
    lease: Lease,
    armed: bool,
}

/// How a single attempt to acquire ended.
#[derive(Debug)]
#[must_use = "a guard that is dropped releases its lock"]
pub enum TryAcquireOutcome {
    /// The lock was acquired.
    Acquired(LockGuard),
    /// Another holder has the lock; contains what is known of the holder.
    Contended(Option<Holder>),
}

impl TryAcquireOutcome {
    /// Returns the guard, or `None` if another holder has the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let Some(guard) = locks.lock("cron:daily").try_acquire().await?.acquired() else {
    ///     return Ok(()); // another holder has the lock
    /// };
    /// assert_eq!(guard.key().as_str(), "cron:daily");
    /// # Ok(()) }
    /// ```
    pub fn acquired(self) -> Option<LockGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Contended(_) => None,
        }
    }
}

impl LockGuard {
    pub(crate) fn new(lease: Lease, renew: Renew, scope: Scope) -> Self {
        renewal::start(lease.state(), Upkeep { renew, scope });
        Self { lease, armed: true }
    }

    /// Returns a handle that may outlive the guard. The handle does not keep the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock("import").acquire().await?;
    /// let lease = guard.lease();
    /// assert!(lease.is_valid());
    /// drop(guard);
    /// assert!(!lease.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Releases the lock and waits for the store's reply. Before
    /// [`min_hold`](crate::LockBuilder::min_hold) has elapsed, it sets the lock to expire at that
    /// time instead.
    ///
    /// Returns [`NotHeld`](ReleaseOutcome::NotHeld) if the lock had already expired or had been
    /// released by force. No other holder's lock is affected.
    ///
    /// # Errors
    ///
    /// The reason why the store did not answer. A background task retries the release, so the
    /// caller need not repeat it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the release continues in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::ReleaseOutcome;
    ///
    /// let guard = locks.lock("deploy:prod").acquire().await?;
    /// assert_eq!(guard.release().await?, ReleaseOutcome::Released);
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<ReleaseOutcome, Error> {
        release::release(self.disarm()).await
    }

    /// Keeps the lock until its ttl has elapsed and stops renewing it. For rate limits and for work
    /// that is done once.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// locks.lock("mail:user:7").ttl("1h").acquire().await?.keep();
    /// assert!(locks.is_locked("mail:user:7").await?); // until the hour has passed
    /// # Ok(()) }
    /// ```
    pub fn keep(self) {
        let lease = self.disarm();
        lease.end_with(End::Released);
        lease.end_count();
    }

    /// Disables the release on drop. The caller has to end the lease.
    pub(crate) fn disarm(mut self) -> Arc<LeaseState> {
        self.armed = false;
        self.lease.state().clone()
    }
}

impl Deref for LockGuard {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.armed {
            let lease = self.lease.state();
            lease.end_with(End::Released);
            // If the store reported that the lock is gone, there is nothing to release.
            if lease.loss() != Some(Loss::NotHeld) || lease.is_in_doubt() {
                lease.release_in_background();
            }
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(&self.lease).finish()
    }
}

impl Classify for LockGuard {
    fn classify(&self) -> Classification {
        Classification::ok_with(self.granted_fence(), Some(self.lock_id()))
    }
}

impl Classify for TryAcquireOutcome {
    fn classify(&self) -> Classification {
        match self {
            Self::Acquired(guard) => guard.classify(),
            Self::Contended(_) => Classification::LOCKED,
        }
    }
}
