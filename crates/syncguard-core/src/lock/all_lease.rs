use std::{fmt, sync::Arc, time::Duration};

use super::{guard::LockGuard, join, lease::Lease, validity::Loss};
use crate::{
    Error, ErrorKind, Fence, InvalidValue, LockKey, Operation, Timestamp, Ttl,
    value::invalid::Invalid,
};

/// A handle on the held locks of several keys, for everything except releasing them.
///
/// Cheap to clone. All clones refer to the same grants, and none keeps them alive. The
/// [`LockAllGuard`](crate::LockAllGuard) dereferences to it, and
/// [`LockAllBuilder::run`](crate::LockAllBuilder::run) passes it to the work.
///
/// **Guarantees:** the keys are held together. As soon as one of them is lost, the lease of all is
/// lost, for ever, and no fence of any key is returned. Each key has the guarantees of a
/// [`Lease`].
#[derive(Clone)]
pub struct LockAllLease(
    /// One for each key, in the order of the keys. There is at least one.
    Arc<[Lease]>,
);

impl LockAllLease {
    pub(super) fn new(guards: &[LockGuard]) -> Self {
        Self(guards.iter().map(LockGuard::lease).collect())
    }

    /// Returns the keys, in the order in which they were acquired.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock_all(["b", "a", "b"]).acquire().await?;
    /// assert_eq!(guard.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    /// # Ok(()) }
    /// ```
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &LockKey> {
        self.0.iter().map(Lease::key)
    }

    /// Returns the fence of the grant of `key`, to be checked at the resource that `key` protects.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) once *any* of the keys is no longer held; the error names
    /// it. [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `key` is invalid or is not one
    /// of the [`keys`](Self::keys).
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
    /// let guard = locks.lock_all(["account:1", "account:2"]).acquire().await?;
    /// assert_eq!(guard.fence("account:1")?.to_string(), "000000000000001");
    /// assert_eq!(guard.fence("account:3").unwrap_err().kind(), ErrorKind::InvalidArgument);
    /// # Ok(()) }
    /// ```
    pub fn fence(&self, key: impl TryInto<LockKey, Error: Into<Error>>) -> Result<Fence, Error> {
        self.lease_of(key)?.fence()
    }

    /// Returns the lease of `key`, for its lock id and for what takes the lease of one key.
    ///
    /// That lease ends with its own key. It does not end with another key of the set, so work that
    /// needs all of the keys checks this joint lease.
    ///
    /// # Errors
    ///
    /// As [`fence`](Self::fence).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock_all(["account:1", "account:2"]).acquire().await?;
    /// let (first, second) = (guard.lease_of("account:1")?, guard.lease_of("account:2")?);
    /// assert_ne!(first.lock_id(), second.lock_id()); // each key has a grant of its own
    /// # Ok(()) }
    /// ```
    pub fn lease_of(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<&Lease, Error> {
        let key: LockKey = key.try_into().map_err(Into::into)?;
        let position = self.0.binary_search_by(|lease| lease.key().cmp(&key)).map_err(|_| {
            let invalid = InvalidValue::from(Invalid::ForeignKey(self.0.len()));
            Error::from(invalid).with_key(&key)
        })?;
        self.check()?;
        Ok(&self.0[position])
    }

    /// Returns when the first of the grants ends unless it is extended, on the store's clock.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock_all(["a", "b"]).acquire().await?;
    /// guard.lease_of("b")?.extend("1h").await?;
    /// assert_eq!(guard.expires_at(), guard.lease_of("a")?.expires_at());
    /// # Ok(()) }
    /// ```
    pub fn expires_at(&self) -> Timestamp {
        self.0.iter().map(Lease::expires_at).fold(self.0[0].expires_at(), Ord::min)
    }

    /// Returns how long all of the locks can still be relied upon without an extend, or zero once
    /// one of them is lost or released. This time ends with the first of their deadlines.
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
    /// let guard = locks.lock_all(["a", "b"]).ttl("20s").acquire().await?;
    /// guard.lease_of("b")?.extend("1h").await?;
    /// assert_eq!(guard.remaining(), 19.secs()); // that of `a`, less a margin of 5 %
    /// # Ok(()) }
    /// ```
    pub fn remaining(&self) -> Duration {
        self.0.iter().map(Lease::remaining).min().unwrap_or_default()
    }

    /// Returns whether all of the locks are held, by the local boot clock; sends no request.
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
    /// let guard = locks.lock_all(["a", "b"]).ttl("20s").acquire().await?;
    /// guard.lease_of("b")?.extend("1h").await?;
    /// clock.advance(20.secs());
    /// assert!(!guard.is_valid()); // `a` is lost, and so are both
    /// # Ok(()) }
    /// ```
    pub fn is_valid(&self) -> bool {
        self.0.iter().all(Lease::is_valid)
    }

    /// Returns a key that was lost and how, or `None` if all are held or were released. If several
    /// keys were lost, it is the first in the order of the keys.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use syncguard_core::{DurationExt, LockManager, Loss, ManualClock, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// # let clock = Arc::new(ManualClock::default());
    /// # let locks = LockManager::builder(NullBackend::default()).clock(clock.clone()).build();
    /// let guard = locks.lock_all(["a", "b"]).ttl("20s").acquire().await?;
    /// guard.lease_of("a")?.extend("1h").await?;
    /// clock.advance(20.secs());
    /// let (key, loss) = guard.loss().unwrap();
    /// assert_eq!((key.as_str(), loss), ("b", Loss::Expired));
    /// # Ok(()) }
    /// ```
    pub fn loss(&self) -> Option<(&LockKey, Loss)> {
        self.0.iter().find_map(|lease| Some((lease.key(), lease.loss()?)))
    }

    /// Completes as soon as one of the locks is no longer held, for any reason. Does not require a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it may be dropped and called again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # async fn transfer() -> u32 { 7 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock_all(["account:1", "account:2"]).acquire().await?;
    /// tokio::select! {
    ///     () = guard.lost() => println!("stopped: a lock was lost"),
    ///     receipt = transfer() => assert_eq!(receipt, 7),
    /// }
    /// # guard.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn lost(&self) {
        join::any(self.0.iter().map(Lease::lost)).await;
    }

    /// Sets the expiry of each lock to the store's current time plus `ttl`, as
    /// [`Lease::extend`] does, for all locks in parallel.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) if one of the locks is not held, before or after the
    /// requests; [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the ttl is invalid; or
    /// the reason why the store did not answer, for the first of the keys that were not extended.
    /// In the last case the other keys were extended, all locks are held until the earliest of
    /// their deadlines, and the call may be repeated.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, extends that were sent continue in the background.
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
    /// let guard = locks.lock_all(["a", "b"]).ttl("1m").acquire().await?;
    /// guard.extend("10m").await?;
    /// assert!(guard.remaining() > 9.mins());
    /// # Ok(()) }
    /// ```
    pub async fn extend(&self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Result<(), Error> {
        let ttl = ttl.try_into().map_err(Into::into)?;
        self.check()?;
        let extended = join::all(self.0.iter().map(|lease| lease.extend(ttl))).await;
        // A loss comes before any other reason.
        self.check()?;
        extended.into_iter().collect()
    }

    /// Returns an error if one of the locks is not held.
    fn check(&self) -> Result<(), Error> {
        if self.is_valid() { Ok(()) } else { Err(self.lost_error()) }
    }

    /// Returns the error that explains why the locks are not held together.
    pub(super) fn lost_error(&self) -> Error {
        // A release of the others may follow a loss.
        let lost = self.0.iter().position(|lease| lease.loss().is_some());
        let ended = lost.or_else(|| self.0.iter().position(|lease| !lease.is_valid()));
        self.0[ended.unwrap_or_default()].lost_error()
    }

    /// Returns the error for a release that found the lock at position `lost` gone and failed for
    /// another.
    pub(super) fn lost_before_release(&self, lost: usize, failed: Error) -> Error {
        let lost = &self.0[lost];
        Error::new(ErrorKind::Lost)
            .with_operation(Operation::Release)
            .with_key(lost.key())
            .with_lock_id(lost.lock_id())
            .with_detail(format!("{}, and the release of another lock failed", Loss::NotHeld))
            .with_source(failed)
    }
}

impl fmt::Debug for LockAllLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}
