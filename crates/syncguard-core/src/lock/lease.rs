use std::{fmt, sync::Arc, time::Duration};

use super::{lease_state::LeaseState, validity::Loss};
use crate::{Error, Fence, LockId, LockKey, Timestamp, Ttl, telemetry};

/// A handle on a held lock, for everything except releasing it.
///
/// Cheap to clone. All clones refer to the same grant, and none keeps it alive. The
/// [`LockGuard`](crate::LockGuard) dereferences to it, and `run` passes it to the work.
///
/// **Guarantees:** once it reports the lock as lost, it does so for ever. It detects the loss by
/// the local boot clock, no later than a margin (5 % of the ttl, at least 50 ms, at most half of
/// the ttl) before the store may grant the key to another holder, whether or not the store can be
/// reached.
#[derive(Clone)]
pub struct Lease(Arc<LeaseState>);

impl Lease {
    pub(crate) fn new(state: Arc<LeaseState>) -> Self {
        Self(state)
    }

    /// Returns the fence of the grant, to be checked at the resource.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) once the lock is no longer held, so that a fence that is no
    /// longer current is never used by mistake.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::ErrorKind;
    ///
    /// let guard = locks.lock("account:1").acquire().await?;
    /// assert_eq!(guard.fence()?.to_string(), "000000000000001");
    ///
    /// let lease = guard.lease();
    /// guard.release().await?;
    /// assert_eq!(lease.fence().unwrap_err().kind(), ErrorKind::Lost);
    /// # Ok(()) }
    /// ```
    pub fn fence(&self) -> Result<Fence, Error> {
        self.0.fence()
    }

    /// Returns the key.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let key = locks.lock("account:1").run(async |lease| lease.key().clone()).await?;
    /// assert_eq!(key.as_str(), "account:1");
    /// # Ok(()) }
    /// ```
    pub fn key(&self) -> &LockKey {
        &self.0.key
    }

    /// Returns the id that proves ownership.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let first = locks.lock("account:1").acquire().await?.lock_id();
    /// let second = locks.lock("account:1").acquire().await?.lock_id();
    /// assert_ne!(first, second); // each grant has an id of its own
    /// # Ok(()) }
    /// ```
    pub fn lock_id(&self) -> LockId {
        self.0.lock_id
    }

    /// Returns when the grant ends unless it is extended, on the store's clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock("import").ttl("1m").acquire().await?;
    /// let before = guard.expires_at();
    /// guard.extend("1h").await?;
    /// assert!(guard.expires_at() > before);
    /// # Ok(()) }
    /// ```
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at()
    }

    /// Returns how long the lock can still be relied upon without an extend, or zero once it is
    /// lost or released. This time ends a margin before the store's expiry.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use syncguard_core::{DurationExt, LockManager, ManualClock, NullBackend};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let clock = Arc::new(ManualClock::default());
    /// let locks = LockManager::builder(NullBackend::default()).clock(clock.clone()).build();
    /// let guard = locks.lock("import").ttl("20s").acquire().await?;
    /// assert_eq!(guard.remaining(), 19.secs()); // less a margin of 5 %
    /// clock.advance(5.secs());
    /// assert_eq!(guard.remaining(), 14.secs());
    /// # Ok(()) }
    /// ```
    pub fn remaining(&self) -> Duration {
        self.0.time_left().unwrap_or_default()
    }

    /// Returns whether the lock is held, by the local boot clock; sends no request.
    ///
    /// After the process was stopped, or the machine slept, past the deadline, the first call
    /// returns false.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use syncguard_core::{DurationExt, LockManager, ManualClock, NullBackend};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let clock = Arc::new(ManualClock::default());
    /// let locks = LockManager::builder(NullBackend::default()).clock(clock.clone()).build();
    /// let guard = locks.lock("import").ttl("20s").acquire().await?;
    /// assert!(guard.is_valid());
    /// clock.advance(1.hours()); // the machine sleeps
    /// assert!(!guard.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn is_valid(&self) -> bool {
        self.0.time_left().is_some()
    }

    /// Returns how the lock was lost, or `None` if it is held or was released.
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
    /// let guard = locks.lock("import").ttl("20s").acquire().await?;
    /// assert_eq!(guard.loss(), None);
    /// clock.advance(20.secs());
    /// assert_eq!(guard.loss(), Some(Loss::Expired));
    /// # Ok(()) }
    /// ```
    pub fn loss(&self) -> Option<Loss> {
        self.0.loss()
    }

    /// Completes as soon as the lock is no longer held, for any reason. Does not require a runtime.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it may be dropped and called again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # async fn import() -> u32 { 7 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock("import").acquire().await?;
    /// tokio::select! {
    ///     () = guard.lost() => println!("stopped: the lock was lost"),
    ///     rows = import() => assert_eq!(rows, 7),
    /// }
    /// guard.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn lost(&self) {
        self.0.lost().await;
    }

    /// Sets the expiry to the store's current time plus `ttl`, sooner or later than before.
    /// Renewals continue with this ttl.
    ///
    /// At most one extend is in flight; this call waits for one that is, but no longer than the
    /// [request timeout](crate::LockManagerBuilder::request_timeout).
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) if the lock is not held, before or after the request;
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the ttl is invalid; or the reason
    /// why the store did not answer. In the last case the lock is still held until its deadline,
    /// and the call may be repeated.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the extend continues in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use syncguard_core::{LockManager, ManualClock, NullBackend};
    /// use syncguard_core::DurationExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// # let clock = Arc::new(ManualClock::default());
    /// # let locks = LockManager::builder(NullBackend::default()).clock(clock).build();
    /// let guard = locks.lock("import").ttl("1m").acquire().await?;
    /// guard.extend("10m").await?; // from now on, not in addition to the time left
    /// assert!(guard.remaining() > 9.mins());
    /// assert!(guard.remaining() < 10.mins());
    /// # Ok(()) }
    /// ```
    pub async fn extend(&self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Result<(), Error> {
        let ttl = ttl.try_into().map_err(Into::into)?;
        let extending = telemetry::extending(self.key(), self.lock_id(), self.0.fence);
        let result = extending.within(self.0.extend_in_task(ttl)).await;
        extending.end(result)
    }

    /// Returns the fence of the grant, held or not. For diagnostics.
    pub(crate) fn granted_fence(&self) -> Fence {
        self.0.fence
    }

    /// Returns the ttl that renewals request.
    pub(crate) fn ttl(&self) -> Ttl {
        self.0.ttl()
    }

    /// Returns the error that explains why the lock is not held.
    pub(crate) fn lost_error(&self) -> Error {
        self.0.lost_error()
    }

    pub(crate) fn state(&self) -> &Arc<LeaseState> {
        &self.0
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.key())
            .field("lock_id", &self.lock_id())
            .field("fence", &self.0.fence)
            .field("valid", &self.is_valid())
            .finish_non_exhaustive()
    }
}
