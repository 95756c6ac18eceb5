use std::time::Duration;

use super::{guard::TryAcquire, lease::Lease, sync_guard::SyncGuard, validity::End};
use crate::{Error, Fence, Holder, LockKey, ReleaseOutcome, Ttl};

/// Says whether something is done for the first time.
#[derive(Debug)]
#[must_use = "it tells whether to go on"]
pub enum Once {
    /// Nobody has done it within the ttl: it is the caller's to do.
    First(Claim),
    /// It was done, or begun, within the ttl; what is known of who did.
    Already(Option<Holder>),
}

/// Says whether something may be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it tells whether to go on"]
pub enum Throttle {
    /// It may, and has been counted.
    Passed,
    /// It was done too short a time ago.
    Limited {
        /// When it may be done again, if nobody does it before; `None` where the store does not
        /// say.
        retry_after: Option<Duration>,
    },
}

impl SyncGuard {
    /// Claims `key` for `ttl`, and says whether anybody had it: for doing something once, such as
    /// handling a webhook that is delivered more than once.
    ///
    /// **Guarantees:** within the ttl one caller is the first, whatever happens to it. The claim
    /// stays when the work is done, when it fails, and when the process dies; it ends with the ttl
    /// (the store's grace may come on top), or by [`Claim::give_back`].
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](crate::LockBuilder::try_acquire). Where the outcome is
    /// [`Ambiguous`](crate::ErrorKind::Ambiguous) the claim is called off, so that it can be made
    /// again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves no claim behind.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, SyncGuard};
    /// # async fn handle(event: &str) -> Result<(), String> { Ok(()) }
    /// # async fn example(locks: SyncGuard) -> Result<(), Error> {
    /// use syncguard_core::Once;
    ///
    /// match locks.once("webhook:evt_1", "24h").await? {
    ///     Once::First(claim) => {
    ///         if handle("evt_1").await.is_err() {
    ///             claim.give_back().await?; // the next delivery is handled
    ///         }
    ///     }
    ///     Once::Already(_) => {}
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn once(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
        ttl: impl TryInto<Ttl, Error: Into<Error>>,
    ) -> Result<Once, Error> {
        Ok(match self.lock(key).ttl(ttl).try_acquire().await? {
            TryAcquire::Acquired(guard) => Once::First(Claim(guard.disarm())),
            TryAcquire::Contended(holder) => Once::Already(holder),
        })
    }

    /// Lets one caller pass in the time of `per`, counted from when the store lets it: a rate limit of
    /// one for each key.
    ///
    /// The next one passes when `per` is over. On a store with a grace (see
    /// [`capabilities`](Self::capabilities)) that takes at least the grace and half of `per`. A `per` of
    /// less than several round trips to the store is answered with errors: the answers come too late.
    ///
    /// # Errors
    ///
    /// As [`once`](Self::once).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has not been counted.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, SyncGuard};
    /// # async fn example(locks: SyncGuard) -> Result<(), Error> {
    /// use syncguard_core::Throttle;
    ///
    /// if let Throttle::Limited { retry_after } = locks.throttle("rate:user:7", "1m").await? {
    ///     println!("come back in {retry_after:?}");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn throttle(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
        per: impl TryInto<Ttl, Error: Into<Error>>,
    ) -> Result<Throttle, Error> {
        let per = per.try_into().map_err(Into::into)?.as_duration();
        // The store keeps the key for the grace beyond the ttl. A ttl that is too short for a request
        // would be over before the answer.
        let ttl = per.saturating_sub(self.shared.grace).max(per / 2);
        Ok(match self.once(key, Ttl::covering(ttl)).await? {
            Once::First(_) => Throttle::Passed,
            Once::Already(holder) => {
                Throttle::Limited { retry_after: holder.and_then(|holder| holder.free_in) }
            }
        })
    }
}

/// Stands for having been the first. It may be dropped: the store keeps the claim.
#[derive(Debug)]
pub struct Claim(Lease);

impl Claim {
    /// Returns the fence of the claim, to be checked at the resource.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) once the ttl is over, or the scope was cancelled.
    pub fn fence(&self) -> Result<Fence, Error> {
        self.0.fence()
    }

    /// Ends the claim before its ttl, so that somebody else is the first: for work that failed, and
    /// may be done again.
    ///
    /// # Errors
    ///
    /// As [`LockGuard::release`](crate::LockGuard::release): a background task goes on trying.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn give_back(self) -> Result<ReleaseOutcome, Error> {
        self.0.clone().give_back().await
    }
}

impl Drop for Claim {
    /// Ends the lease here: nobody is told that it ran out at the store, which is as it should be.
    fn drop(&mut self) {
        self.0.end_with(End::Given);
    }
}
