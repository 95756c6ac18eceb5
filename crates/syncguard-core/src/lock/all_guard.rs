use std::{fmt, ops::Deref};

use super::{
    all_lease::LockAllLease,
    guard::LockGuard,
    options::LockOptions,
    renewal::{self, Upkeep},
    taken::release_all,
};
use crate::{Error, Holder, LockKey, ReleaseOutcome};

/// Holds the locks of several keys; dropping it releases them in the background.
///
/// It dereferences to its [`LockAllLease`], which returns the fences, the remaining time and the
/// loss.
///
/// **Guarantees:** those of a [`LockGuard`], for each key.
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
/// let guard = locks.lock_all(["account:1", "account:2"]).acquire().await?;
/// assert!(guard.is_valid()); // a method of its `LockAllLease`
/// drop(guard); // released in the background
/// assert_eq!(locks.shutdown(10.secs()).await, ShutdownOutcome::Drained);
/// # Ok(()) }
/// ```
#[must_use = "the locks are released as soon as their guard is dropped"]
pub struct LockAllGuard {
    lease: LockAllLease,
    /// One for each key, in the order of the keys.
    guards: Vec<LockGuard>,
}

/// How a single attempt to acquire several keys ended.
#[derive(Debug)]
#[must_use = "a guard that is dropped releases its locks"]
pub enum TryAcquireAllOutcome {
    /// All of the locks were acquired.
    Acquired(LockAllGuard),
    /// Another holder has one of the locks, so none is held.
    Contended {
        /// The first key, in their order, that another holder has.
        key: LockKey,
        /// What is known of the holder.
        holder: Option<Holder>,
    },
}

impl TryAcquireAllOutcome {
    /// Returns the guard, or `None` if another holder has one of the locks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let attempt = locks.lock_all(["account:1", "account:2"]).try_acquire().await?;
    /// let Some(guard) = attempt.acquired() else {
    ///     return Ok(()); // another holder has one of them
    /// };
    /// assert_eq!(guard.keys().len(), 2);
    /// # Ok(()) }
    /// ```
    pub fn acquired(self) -> Option<LockAllGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Contended { .. } => None,
        }
    }
}

impl LockAllGuard {
    /// Starts the hold of all keys, whose guards are in the order of the keys.
    ///
    /// What limits and maintains a hold starts here and not with each grant: until now, the keys
    /// were held for no one.
    pub(super) fn new(guards: Vec<LockGuard>, options: &LockOptions) -> Self {
        for lease in guards.iter().map(|guard| guard.state()) {
            if let Some(max_hold) = options.max_hold {
                lease.start_max_hold(max_hold);
            }
            if let Some(min_hold) = options.min_hold {
                lease.start_min_hold(min_hold);
            }
            let (renew, scope) = (options.renew.unwrap_or_default(), options.scope.clone());
            renewal::start(lease, Upkeep { renew, scope });
        }
        Self { lease: LockAllLease::new(&guards), guards }
    }

    /// Returns a handle that may outlive the guard. The handle does not keep the locks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock_all(["account:1", "account:2"]).acquire().await?;
    /// let lease = guard.lease();
    /// assert!(lease.is_valid());
    /// drop(guard);
    /// assert!(!lease.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn lease(&self) -> LockAllLease {
        self.lease.clone()
    }

    /// Separates the locks. Returns a guard for each key, in the order of the keys. For releases of
    /// which each counts as soon as it is answered, or of some keys before the others.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock_all(["input", "output"]).acquire().await?;
    /// let [input, output] = guard.into_guards().try_into().expect("two keys");
    /// input.release().await?; // it was read
    /// assert!(output.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn into_guards(self) -> Vec<LockGuard> {
        self.guards
    }

    /// Releases all of the locks in parallel and waits for the store's replies. Before
    /// [`min_hold`](crate::LockAllBuilder::min_hold) has elapsed, it sets them to expire at that
    /// time instead.
    ///
    /// Returns the outcome for each key, in the order of the keys:
    /// [`NotHeld`](ReleaseOutcome::NotHeld) if the lock had already expired or had been released by
    /// force. No other holder's lock is affected.
    ///
    /// # Errors
    ///
    /// The reason why the store did not answer, for the first key for which it did not; the error
    /// names the key. If another lock was [`NotHeld`](ReleaseOutcome::NotHeld), the error is
    /// [`Lost`](crate::ErrorKind::Lost) and names the first such key; the reason and its key are in
    /// the [source](std::error::Error::source). The release of every key is attempted in any case.
    /// Background tasks retry those that failed, so the caller need not repeat them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the releases continue in the background.
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
    /// let guard = locks.lock_all(["account:1", "account:2"]).acquire().await?;
    /// for (key, outcome) in guard.release().await? {
    ///     assert_eq!(outcome, ReleaseOutcome::Released, "{key}");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn release(self) -> Result<Vec<(LockKey, ReleaseOutcome)>, Error> {
        let Self { lease, guards } = self;
        let results = release_all(guards).await;
        let lost = results.iter().position(|r| matches!(r, Ok(ReleaseOutcome::NotHeld(_))));
        let outcomes: Result<_, Error> =
            lease.keys().zip(results).map(|(key, result)| Ok((key.clone(), result?))).collect();
        // A loss comes before any other reason.
        outcomes.map_err(|failed| match lost {
            Some(lost) => lease.lost_before_release(lost, failed),
            None => failed,
        })
    }
}

impl Deref for LockAllGuard {
    type Target = LockAllLease;

    fn deref(&self) -> &LockAllLease {
        &self.lease
    }
}

impl fmt::Debug for LockAllGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockAllGuard").field(&self.lease).finish()
    }
}
