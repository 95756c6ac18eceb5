use std::{fmt, ops::Deref};

use super::{
    lease::Lease,
    renewal::{self, Renew, Upkeep},
    scope::Scope,
    validity::{End, Loss},
};
use crate::{
    Error, Holder, ReleaseOutcome,
    telemetry::{Judged, Verdict},
};

/// Holds a lock; dropping it releases the lock in the background.
///
/// It dereferences to its [`Lease`], which returns the fence, the remaining time and the loss.
///
/// **Guarantees:** dropping never blocks, never panics and does not require a runtime. If the store
/// cannot be reached, the release is retried until the ttl plus one second is over; by then the
/// grant has expired. A failure is reported to
/// [`on_release_error`](crate::LockManagerBuilder::on_release_error) and `tracing`.
///
/// # Runtimes
///
/// A guard may outlive the runtime on which its lock was acquired. Its methods work on any runtime
/// and, unless the backend needs one, outside every runtime. A drop releases the lock on the
/// [configured](crate::LockManagerBuilder::runtime) runtime, otherwise on the current runtime of the
/// drop, otherwise on the runtime on which the lock was acquired. If that runtime is shut down
/// before the release is done, the release moves to another of them.
///
/// **One case is left to the ttl:** a guard is dropped outside every runtime, and its lock was
/// acquired on a `current_thread` runtime that no thread drives any more. Its release is a task
/// that is never polled. If that runtime is shut down later, the release is reported to
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
    pub fn acquired(self) -> Option<LockGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Contended(_) => None,
        }
    }
}

impl LockGuard {
    pub(crate) fn new(lease: Lease, renew: Renew, scope: Scope) -> Self {
        renewal::start(&lease, Upkeep { renew, scope });
        Self { lease, armed: true }
    }

    /// Returns a handle that may outlive the guard. The handle does not keep the lock.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Releases the lock and waits for the store's answer. Before
    /// [`min_hold`](crate::LockBuilder::min_hold) is over, it sets the lock to expire at that time
    /// instead.
    ///
    /// Returns [`NotHeld`](ReleaseOutcome::NotHeld) if the lock had already expired or had been
    /// taken away. No other holder's lock is affected.
    ///
    /// # Errors
    ///
    /// The reason why the store did not answer. A background task retries the release, so the
    /// caller need not repeat it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the release continues in the background.
    pub async fn release(self) -> Result<ReleaseOutcome, Error> {
        self.disarm().give_back().await
    }

    /// Keeps the lock until its ttl is over and stops renewing it. For rate limits and for work
    /// that is done once.
    pub fn keep(self) {
        self.disarm().end_with(End::Given);
    }

    /// Takes over from `drop` the duty to release.
    pub(crate) fn disarm(mut self) -> Lease {
        self.armed = false;
        self.lease.clone()
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
            self.lease.end_with(End::Given);
            // If the store reported that the lock is gone, there is nothing to release.
            if self.lease.loss() != Some(Loss::NotHeld) || self.lease.is_in_doubt() {
                self.lease.release_later();
            }
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(&self.lease).finish()
    }
}

impl Judged for LockGuard {
    fn verdict(&self) -> Verdict {
        Verdict::found(self.granted_fence(), Some(self.lock_id()))
    }
}

impl Judged for TryAcquireOutcome {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Acquired(guard) => guard.verdict(),
            Self::Contended(_) => Verdict::LOCKED,
        }
    }
}
