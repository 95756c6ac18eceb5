use std::time::Duration;

use super::{guard::TryAcquireOutcome, lease::Lease, manager::LockManager, validity::End};
use crate::{Error, Fence, Holder, LockKey, ReleaseOutcome, Ttl};

/// Reports whether the claim is the first within the ttl.
#[derive(Debug)]
#[must_use = "it tells whether to go on"]
pub enum OnceOutcome {
    /// No one else claimed the key within the ttl: the caller does the work.
    First(Claim),
    /// The key was already claimed within the ttl; contains what is known of the earlier claim.
    Already(Option<Holder>),
}

/// Reports whether the operation may be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it tells whether to go on"]
pub enum ThrottleOutcome {
    /// The operation may be done, and has been counted.
    Passed,
    /// The operation was done too recently.
    Limited {
        /// How long until it may be done again, if no one else does it first; `None` if the store
        /// does not report it.
        retry_after: Option<Duration>,
    },
}

impl LockManager {
    /// Claims `key` for `ttl` and returns whether the claim is the first. For work that must be
    /// done once, such as handling a webhook that is delivered more than once.
    ///
    /// **Guarantees:** within the ttl one caller is the first, whatever happens to it. The
    /// claim stays when the work is done, when it fails, and when the process dies. It ends with
    /// the ttl (to which the store's grace may be added) or by [`Claim::give_back`].
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](crate::LockBuilder::try_acquire). If the outcome is
    /// [`Ambiguous`](crate::ErrorKind::Ambiguous), the claim is abandoned, so that it can be made
    /// again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no claim is left behind.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn handle(event: &str) -> Result<(), String> { Ok(()) }
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::OnceOutcome;
    ///
    /// match locks.once("webhook:evt_1", "24h").await? {
    ///     OnceOutcome::First(claim) => {
    ///         if handle("evt_1").await.is_err() {
    ///             claim.give_back().await?; // the next delivery is handled
    ///         }
    ///     }
    ///     OnceOutcome::Already(_) => {}
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn once(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
        ttl: impl TryInto<Ttl, Error: Into<Error>>,
    ) -> Result<OnceOutcome, Error> {
        Ok(match self.lock(key).ttl(ttl).try_acquire().await? {
            TryAcquireOutcome::Acquired(guard) => OnceOutcome::First(Claim(guard.disarm())),
            TryAcquireOutcome::Contended(holder) => OnceOutcome::Already(holder),
        })
    }

    /// Lets one caller pass in each period of `per`, counted from when the store grants it: a rate
    /// limit of one for each key.
    ///
    /// The next caller passes when `per` is over. On a store with a grace (see
    /// [`capabilities`](Self::capabilities)) that takes at least the grace and half of `per`. If
    /// `per` is less than several round trips to the store, the call returns errors, because the
    /// answers arrive too late.
    ///
    /// # Errors
    ///
    /// As [`once`](Self::once).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the call is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::ThrottleOutcome;
    ///
    /// if let ThrottleOutcome::Limited { retry_after } = locks.throttle("rate:user:7", "1m").await? {
    ///     println!("come back in {retry_after:?}");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn throttle(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
        per: impl TryInto<Ttl, Error: Into<Error>>,
    ) -> Result<ThrottleOutcome, Error> {
        let per = per.try_into().map_err(Into::into)?.as_duration();
        // The store keeps the key for the grace beyond the ttl. A ttl that is too short for a
        // request would be over before the answer.
        let ttl = per.saturating_sub(self.shared.grace).max(per / 2);
        Ok(match self.once(key, Ttl::covering(ttl)).await? {
            OnceOutcome::First(_) => ThrottleOutcome::Passed,
            OnceOutcome::Already(holder) => {
                ThrottleOutcome::Limited { retry_after: holder.and_then(|holder| holder.free_in) }
            }
        })
    }
}

/// Represents the first claim on a key. It may be dropped: the store keeps the claim.
#[derive(Debug)]
pub struct Claim(Lease);

impl Claim {
    /// Returns the fence of the claim, to be checked at the resource.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) once the ttl is over or the scope was cancelled.
    pub fn fence(&self) -> Result<Fence, Error> {
        self.0.fence()
    }

    /// Ends the claim before its ttl, so that another caller can be the first. For work that failed
    /// and may be repeated.
    ///
    /// # Errors
    ///
    /// As [`LockGuard::release`](crate::LockGuard::release): a background task retries the release.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the release continues in the background.
    pub async fn give_back(self) -> Result<ReleaseOutcome, Error> {
        self.0.clone().give_back().await
    }
}

impl Drop for Claim {
    /// Ends the local lease without reporting its expiry at the store, which is the intended end of
    /// a claim.
    fn drop(&mut self) {
        self.0.end_with(End::Given);
    }
}
