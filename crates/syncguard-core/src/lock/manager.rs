use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    builder::LockBuilder,
    claim::{Claim, OnceOutcome, ThrottleOutcome},
    guard::TryAcquireOutcome,
    leader::LeaderBuilder,
    lock_all::LockAllBuilder,
    manager_builder::LockManagerBuilder,
    queue::Queues,
    scope::Scope,
    shared::Shared,
    stats::LockStats,
    timer::Timer,
    watch::LockWatch,
};
use crate::{
    DynBackend, Error, LockId, LockInfo, LockKey, Operation, Ttl,
    backend::{
        Capabilities, Finding, ListRequest, LockBackend, LockPage, LockQuery, LockRecord,
        RetireRequest,
    },
};

/// Locks keys through one backend. Cheap to clone; all clones share one queue for each key and one
/// set of background tasks.
///
/// # Examples
///
/// ```
/// use syncguard_core::{DurationExt, Error, LockManager, backend::LockBackend};
///
/// async fn deploy(backend: impl LockBackend) -> Result<(), Error> {
///     let locks = LockManager::new(backend);
///     let guard = locks.lock("deploy:prod").wait(5.secs()).owner("ci-7").acquire().await?;
///     println!("deploying under fence {}", guard.fence()?);
///     guard.release().await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct LockManager {
    shared: Arc<Shared>,
    queues: Queues,
    scope: Scope,
}

impl LockManager {
    /// Creates a `LockManager` over `backend` with the default settings.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{LockManager, NullBackend};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock("report").acquire().await?;
    /// assert!(guard.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn new(backend: impl LockBackend) -> Self {
        Self::builder(backend).build()
    }

    /// Returns a builder for a `LockManager` over `backend`.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, LockManager, NullBackend, Owner};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let locks = LockManager::builder(NullBackend::default())
    ///     .owner(Owner::new("ci-7")?)
    ///     .request_timeout(2.secs())
    ///     .build();
    /// let guard = locks.lock("deploy:prod").acquire().await?;
    /// assert!(guard.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn builder(backend: impl LockBackend) -> LockManagerBuilder {
        LockManagerBuilder::new(backend)
    }

    /// Returns a builder for one use of the lock on `key`, which is text or a [`LockKey`].
    ///
    /// An invalid key is reported when the lock is requested.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::{ErrorKind, LockKey};
    ///
    /// let key = LockKey::new("payment:42")?;
    /// let guard = locks.lock(&key).acquire().await?;
    /// assert_eq!(guard.key(), &key);
    ///
    /// let error = locks.lock("").acquire().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    /// # Ok(()) }
    /// ```
    pub fn lock(&self, key: impl TryInto<LockKey, Error: Into<Error>>) -> LockBuilder {
        let key = key.try_into().map_err(Into::into);
        LockBuilder::new(self.shared.clone(), self.queues.clone(), &self.scope, key)
    }

    /// Returns a builder for a candidate for the leadership of `key`: of all candidates, in all
    /// processes, one leads at a time.
    ///
    /// An invalid key is reported when the candidate campaigns.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let fence = locks.leader("scheduler").run(async |term| term.fence()).await??;
    /// assert_eq!(fence.number(), 1);
    /// # Ok(()) }
    /// ```
    pub fn leader(&self, key: impl TryInto<LockKey, Error: Into<Error>>) -> LeaderBuilder {
        LeaderBuilder::new(self.lock(key))
    }

    /// Watches who holds `key`, such as a [`leader`](Self::leader).
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the key is invalid. The store is
    /// first asked by [`changed`](LockWatch::changed).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let mut watch = locks.watch("scheduler")?;
    /// assert!(watch.changed().await?.is_none()); // no one leads yet
    /// let guard = locks.lock("scheduler").acquire().await?;
    /// assert_eq!(watch.changed().await?.unwrap().fence, guard.fence()?);
    /// # Ok(()) }
    /// ```
    pub fn watch(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<LockWatch, Error> {
        Ok(LockWatch::new(self.shared.clone(), key.try_into().map_err(Into::into)?))
    }

    /// Returns a builder for one of the `permits` of a semaphore: at most that many hold `key` at the
    /// same time, in all processes.
    ///
    /// All who use the key must name the same number; a different one is rejected as long as a
    /// permit is held. A holder of the plain [`lock`](Self::lock) on the key takes all permits.
    ///
    /// # Errors
    ///
    /// When it is acquired, [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `permits` is
    /// zero or the key is held with another number, and
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the backend does not support shared mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn train() {}
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// locks.semaphore("gpu", 4).run(async |_| train().await).await?;
    /// # Ok(()) }
    /// ```
    pub fn semaphore(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
        permits: u32,
    ) -> LockBuilder {
        self.lock(key).permits(permits)
    }

    /// Reports what this process holds and waits for, for diagnosis. Sends nothing to the store.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let _guard = locks.lock("report").acquire().await?;
    /// for stats in locks.stats().keys {
    ///     println!("{} waiters, the first for {:?}", stats.waiters, stats.longest_wait);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> LockStats {
        self.queues.stats()
    }

    /// Returns a builder for one use of the locks on several keys, under one guard.
    ///
    /// Keys that are equal after [normalisation](LockKey) count once. An invalid key, no key, and
    /// more than [`MAX_KEYS`](LockAllBuilder::MAX_KEYS) of them are reported when the locks are
    /// requested.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock_all(["account:2", "account:1"]).acquire().await?;
    /// let keys: Vec<_> = guard.keys().map(|key| key.as_str()).collect();
    /// assert_eq!(keys, ["account:1", "account:2"]);
    /// assert!(guard.fence("account:1")? != guard.fence("account:2")?);
    /// guard.release().await?;
    /// # Ok(()) }
    /// ```
    pub fn lock_all(
        &self,
        keys: impl IntoIterator<Item: TryInto<LockKey, Error: Into<Error>>>,
    ) -> LockAllBuilder {
        LockAllBuilder::new(keys, |first| {
            LockBuilder::new(self.shared.clone(), self.queues.clone(), &self.scope, first)
        })
    }

    /// Claims `key` for `ttl` and returns whether the claim is the first. For work that must be
    /// done once, such as the handling of a webhook that is delivered more than once.
    ///
    /// **Guarantees:** within the ttl one caller is the first, whatever happens to it. The claim
    /// stays when the work is done, when it fails, and when the process dies. It ends with the ttl
    /// (to which the store's grace period may be added) or by [`Claim::release`].
    ///
    /// A claim has [no fence](Claim), and does not create a fence counter. When it has ended,
    /// nothing is left of a key that was only ever claimed, or as much as the store removes in time
    /// (see the page of the backend). A key that is locked as well keeps its counter.
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
    ///             claim.release().await?; // the next delivery is handled
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
        Ok(match self.lock(key).ttl(ttl).without_new_counter().try_acquire().await? {
            TryAcquireOutcome::Acquired(guard) => OnceOutcome::First(Claim::new(guard)),
            TryAcquireOutcome::Contended(holder) => OnceOutcome::Already(holder),
        })
    }

    /// Permits one call in each period of `per`, counted from its grant by the store: a rate limit
    /// of one for each key.
    ///
    /// The next call passes when `per` has elapsed. On a store with a grace period (see
    /// [`capabilities`](Self::capabilities)), that takes at least the grace period and half of
    /// `per`. If `per` is less than several round trips to the store, the call returns errors,
    /// because the replies arrive too late.
    ///
    /// As [`once`](Self::once), it does not create a fence counter.
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
        // The store keeps the key for the grace period after the ttl. A ttl that is shorter than a
        // request would have elapsed before the reply.
        let ttl = per.saturating_sub(self.shared.grace).max(per / 2);
        Ok(match self.once(key, Ttl::covering(ttl)).await? {
            OnceOutcome::First(_) => ThrottleOutcome::Passed,
            OnceOutcome::Already(holder) => {
                ThrottleOutcome::Limited { retry_after: holder.and_then(|holder| holder.free_in) }
            }
        })
    }

    /// Returns a `LockManager` for the same locks in a scope of its own. Cancelling `token` cancels
    /// every lock that was acquired through the scope, and every wait in it.
    ///
    /// A wait, or `run` with its work, ends with [`Aborted`](crate::ErrorKind::Aborted). A guard
    /// counts as [lost](crate::Loss::Cancelled) and is no longer renewed. The key becomes free when
    /// the guard is dropped or when its ttl has elapsed. It does not become free earlier, because
    /// the work under the lock may not have noticed the cancellation yet.
    ///
    /// A nested scope is cancelled by either token. A lock that [`keep`](crate::LockGuard::keep)
    /// left at the store stays there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use tokio_util::sync::CancellationToken;
    ///
    /// let request = CancellationToken::new();
    /// let scope = locks.child(request.clone());
    /// let guard = scope.lock("cart:17").acquire().await?;
    /// request.cancel();
    /// guard.lost().await;
    /// # Ok(()) }
    /// ```
    #[must_use = "the token cancels only locks that are acquired through the returned manager"]
    pub fn child(&self, token: CancellationToken) -> Self {
        let (shared, queues) = (self.shared.clone(), self.queues.clone());
        Self { shared, queues, scope: self.scope.clone().with(token) }
    }

    /// Returns the lock on `key`, or `None` if no one holds it. For diagnosis: the result may be
    /// out of date when it arrives.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the key is invalid,
    /// [`NetworkTimeout`](crate::ErrorKind::NetworkTimeout) if the store does not answer within the
    /// [request timeout](LockManagerBuilder::request_timeout), or the error of the backend.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let _guard = locks.lock("user:7").owner("ci-7").acquire().await?;
    /// let found = locks.lookup("user:7").await?.unwrap();
    /// assert_eq!(found.owner.unwrap().as_str(), "ci-7");
    /// assert!(locks.lookup("user:8").await?.is_none());
    /// # Ok(()) }
    /// ```
    pub async fn lookup(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<Option<LockInfo>, Error> {
        let key: LockKey = key.try_into().map_err(Into::into)?;
        Ok(self.lookup_raw(&key.into()).await?.as_ref().map(LockInfo::from))
    }

    /// Returns the lock that `lock_id` holds, or `None` if it holds none.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let guard = locks.lock("user:7").acquire().await?;
    /// let found = locks.lookup_by_id(guard.lock_id()).await?.unwrap();
    /// assert_eq!(found.key, guard.key().display_hash());
    /// assert_eq!(found.fence, guard.fence()?);
    /// # Ok(()) }
    /// ```
    pub async fn lookup_by_id(&self, lock_id: LockId) -> Result<Option<LockInfo>, Error> {
        Ok(self.lookup_raw(&lock_id.into()).await?.as_ref().map(LockInfo::from))
    }

    /// Returns a lock as the store keeps it, with its key and its id in clear. For debugging:
    /// any client that has the id can release the lock.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let guard = locks.lock("user:7").acquire().await?;
    /// let record = locks.lookup_raw(&guard.lock_id().into()).await?.unwrap();
    /// assert_eq!(record.key.as_str(), "user:7");
    /// # Ok(()) }
    /// ```
    pub async fn lookup_raw(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let record = self.shared.send(Operation::Lookup, self.shared.backend.lookup(query)).await;
        record.map_err(|error| match query {
            LockQuery::ByKey(key) => error.with_key(key),
            LockQuery::ById(lock_id) => error.with_lock_id(*lock_id),
        })
    }

    /// Returns whether a holder has `key`.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let guard = locks.lock("user:7").acquire().await?;
    /// assert!(locks.is_locked("user:7").await?);
    /// guard.release().await?;
    /// assert!(!locks.is_locked("user:7").await?);
    /// # Ok(()) }
    /// ```
    pub async fn is_locked(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<bool, Error> {
        let key = key.try_into().map_err(Into::into)?;
        let locked = self.shared.send(Operation::IsLocked, self.shared.backend.is_locked(&key));
        locked.await.map_err(|error| error.with_key(&key))
    }

    /// Returns whether `lock_id` holds a lock.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let guard = locks.lock("user:7").acquire().await?;
    /// let lock_id = guard.lock_id();
    /// assert!(locks.owns(lock_id).await?);
    /// guard.release().await?;
    /// assert!(!locks.owns(lock_id).await?);
    /// # Ok(()) }
    /// ```
    pub async fn owns(&self, lock_id: LockId) -> Result<bool, Error> {
        Ok(self.lookup_raw(&lock_id.into()).await?.is_some())
    }

    /// Returns a page of the held locks, as the store keeps them. For operators.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the [`capabilities`](Self::capabilities)
    /// do not include `list`; otherwise as [`lookup`](Self::lookup).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::backend::ListRequest;
    ///
    /// let mut request = ListRequest::new("user:").limit(50);
    /// loop {
    ///     let page = locks.list(&request).await?;
    ///     for lock in &page.locks {
    ///         println!("{} has {:?} left", lock.key.as_str(), lock.remaining());
    ///     }
    ///     let Some(next) = page.next else { break };
    ///     request = request.after(next);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        self.shared.send(Operation::List, self.shared.backend.list(request)).await
    }

    /// Releases the lock on `key`, regardless of its holder, and returns its record. For operators:
    /// the holder continues until its next renewal reports the loss.
    ///
    /// Returns `None` if no one held the lock.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list). A record that cannot be read is cleared and reported as an
    /// [`Internal`](crate::ErrorKind::Internal) error that names the unreadable part. Its
    /// [`has_applied`](Error::has_applied) is true: the key is free.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::ErrorKind;
    ///
    /// let guard = locks.lock("deploy:prod").acquire().await?;
    /// let released = locks.force_release("deploy:prod").await?.unwrap();
    /// assert_eq!(released.fence, guard.fence()?); // the holder has not noticed yet
    /// assert_eq!(guard.extend("1m").await.unwrap_err().kind(), ErrorKind::Lost);
    /// # Ok(()) }
    /// ```
    pub async fn force_release(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<Option<LockInfo>, Error> {
        let key = key.try_into().map_err(Into::into)?;
        let request = self.shared.backend.force_release(&key);
        let record = self.shared.send(Operation::ForceRelease, request).await;
        // After an error as well: the lock may have been cleared.
        self.queues.notify_released(&key);
        let record = record.map_err(|error| error.with_key(&key))?;
        Ok(record.as_ref().map(LockInfo::from))
    }

    /// Retires the fence counters of keys that were not granted for `unused_for`, in bounded steps,
    /// and returns how many. For operators: a counter stays for every key that was ever locked, and
    /// keys of one use add up. Those that are only [claimed](Self::once) have none.
    ///
    /// The backend must be configured with `seed_new_counters`, and so must every other client of
    /// the store, none of which may be a TypeScript client. Their fences then follow the store's
    /// clock, so that a key whose counter was retired never repeats one, as long as that clock is
    /// never set back by `unused_for` or more. [`Counters`](crate::backend::Counters) has the proof.
    /// Counters that began at 1 stay.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](crate::ErrorKind::Unsupported) if the backend does not seed, or cannot
    ///   retire counters.
    /// - [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if `unused_for` is below a day.
    /// - Otherwise as [`lookup`](Self::lookup). What was retired before the error stays retired.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::DurationExt;
    ///
    /// let retired = locks.retire_counters(720.hours()).await?;
    /// println!("{retired} counters retired");
    /// # Ok(()) }
    /// ```
    pub async fn retire_counters(&self, unused_for: Duration) -> Result<u64, Error> {
        let (mut request, mut retired) = (RetireRequest::new(unused_for)?, 0);
        loop {
            let step = self.shared.backend.retire_counters(&request);
            let page = self.shared.send(Operation::Prune, step).await?;
            retired += page.retired;
            let Some(next) = page.next else { return Ok(retired) };
            request = request.after(next);
        }
    }

    /// Returns the capabilities of the backend.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::backend::Fencing;
    ///
    /// let capabilities = locks.capabilities();
    /// assert!(!capabilities.exclusive); // the null backend coordinates nothing
    /// assert_eq!(capabilities.fencing, Fencing::Process);
    /// # Ok(()) }
    /// ```
    pub fn capabilities(&self) -> Capabilities {
        self.shared.backend.capabilities()
    }

    /// Checks the store's own settings and returns those that would break a guarantee.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::backend::Severity;
    ///
    /// for finding in locks.check().await? {
    ///     println!("{finding}");
    ///     assert_eq!(finding.severity, Severity::Unsafe); // the null backend coordinates nothing
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.shared.send(Operation::Check, self.shared.backend.check()).await
    }

    /// Returns the backend, for operations that only the backend offers.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::{ReleaseOutcome, backend::LockBackend};
    ///
    /// let guard = locks.lock("deploy:prod").acquire().await?;
    /// let outcome = locks.backend().release(&guard.lock_id().into()).await?;
    /// assert_eq!(outcome, ReleaseOutcome::Released);
    /// # Ok(()) }
    /// ```
    pub fn backend(&self) -> &DynBackend {
        &self.shared.backend
    }

    /// Waits until all background releases are done, for at most `timeout`.
    ///
    /// Call it after the last guard is gone and before the runtime ends. Guards that are still held
    /// are not affected, and locks can be acquired afterwards as before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the background releases continue even if the future is dropped.
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
    /// drop(locks.lock("upload:9").acquire().await?); // released in the background
    /// assert_eq!(locks.shutdown(10.secs()).await, ShutdownOutcome::Drained);
    /// # Ok(()) }
    /// ```
    pub fn shutdown(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = ShutdownOutcome> + Send + use<> {
        let tasks = self.shared.tasks.clone();
        async move {
            // A tracker is done when it is closed and empty. A closed tracker still accepts tasks.
            tasks.close();
            tokio::select! {
                biased;
                () = tasks.wait() => ShutdownOutcome::Drained,
                () = Timer::after(timeout) => ShutdownOutcome::TimedOut { pending: tasks.len() },
            }
        }
    }
}

// In this file because `LockManager::builder` returns the builder: in its own file, `build` would
// make the two modules depend on each other.
impl LockManagerBuilder {
    /// Builds the `LockManager`.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{LockManager, NullBackend};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let locks = LockManager::builder(NullBackend::default()).build();
    /// let attempt = locks.lock("report").try_acquire().await?;
    /// assert!(attempt.acquired().is_some());
    /// # Ok(()) }
    /// ```
    pub fn build(self) -> LockManager {
        let Self { shared, queues } = self;
        LockManager { shared: Arc::new(shared), queues, scope: Scope::default() }
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager")
            .field("backend", &self.shared.backend)
            .field("owner", &self.shared.owner)
            .finish_non_exhaustive()
    }
}

/// How a [shutdown](LockManager::shutdown) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "releases that are still pending leave their locks to the ttl"]
pub enum ShutdownOutcome {
    /// All background releases are done.
    Drained,
    /// Some releases are still waiting for the store. Their locks end with the ttl.
    TimedOut {
        /// The number of pending releases.
        pending: usize,
    },
}
