use std::time::Duration;

use super::{guard::LockGuard, lease::Lease, release, validity::End};
use crate::{Error, Holder, ReleaseOutcome};

/// Reports whether the claim is the first within the ttl.
#[derive(Debug)]
#[must_use = "only the first claim entitles its caller to do the work"]
pub enum OnceOutcome {
    /// No other claim was made within the ttl: the caller does the work.
    First(Claim),
    /// The key was already claimed within the ttl; contains what is known of the earlier claim.
    Already(Option<Holder>),
}

/// Reports whether the operation may be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the operation may be done only if it passed"]
pub enum ThrottleOutcome {
    /// The operation may be done, and has been counted.
    Passed,
    /// The operation was done too recently.
    Limited {
        /// How long until it may be done again, unless another caller does it first; `None` if the
        /// store does not report it.
        retry_after: Option<Duration>,
    },
}

/// Represents the first claim on a key. It may be dropped: the store keeps the claim.
///
/// A claim has no fence, so it cannot stop work that continues beyond the ttl while the next claim
/// is made. Choose a ttl that the work cannot outlast. If the resource has to check a fence,
/// [`try_acquire`](crate::LockBuilder::try_acquire) the lock instead, and
/// [`keep`](crate::LockGuard::keep) it: its fence counter stays at the store.
///
/// # Why a claim needs no fence counter
///
/// A counter exists so that no fence is returned twice. The grant of a claim on a key without a
/// counter is stored under [`Fence::ZERO`](crate::Fence::ZERO), and no caller receives a fence. The
/// first fence that a caller receives is that of the first lock on the key, which creates the
/// counter and is above zero. From then on each grant advances the counter, those of claims too. So
/// the fences of the locks on a key increase, whatever claims are made before, after and between
/// them.
///
/// Exclusion does not rest on fences: a store grants a key only if the record of its last grant is
/// over, and decides that in the same atomic step that writes the next record.
#[derive(Debug)]
pub struct Claim(Lease);

impl Claim {
    /// Takes over the lock of `guard`, which is no longer released on drop.
    pub(super) fn new(guard: LockGuard) -> Self {
        Self(Lease::new(guard.disarm()))
    }

    /// Releases the claim before its ttl has elapsed, so that another caller can be the first. For
    /// work that failed and may be repeated.
    ///
    /// # Errors
    ///
    /// As [`LockGuard::release`](crate::LockGuard::release): a background task retries the release.
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
    /// use syncguard_core::{OnceOutcome, ReleaseOutcome};
    ///
    /// if let OnceOutcome::First(claim) = locks.once("webhook:evt_1", "24h").await? {
    ///     assert_eq!(claim.release().await?, ReleaseOutcome::Released);
    /// }
    /// assert!(matches!(locks.once("webhook:evt_1", "24h").await?, OnceOutcome::First(_)));
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<ReleaseOutcome, Error> {
        release::release(self.0.state().clone()).await
    }
}

impl Drop for Claim {
    /// Ends the local lease without reporting its expiry at the store, which is the intended end of
    /// a claim.
    fn drop(&mut self) {
        self.0.state().end_with(End::Released);
        self.0.state().end_count();
    }
}
