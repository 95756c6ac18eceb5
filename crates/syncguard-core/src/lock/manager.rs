use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    builder::LockBuilder, fairness, queue::Queues, runtime::Runtimes, scope::Scope, shared::Shared,
    store_clock::StoreClock, timer::Timer,
};
use crate::{
    BootClock, Capabilities, Clock, DynBackend, Error, Finding, ListRequest, LockBackend, LockId,
    LockInfo, LockKey, LockPage, LockQuery, LockRecord, Operation, Owner,
};

/// The default limit on the time of one request to the store.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Locks keys through one backend. Cheap to clone; all clones share one queue for each key and one
/// set of background tasks.
///
/// # Examples
///
/// ```
/// use syncguard_core::{DurationExt, Error, LockBackend, LockManager};
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
    pub(super) shared: Arc<Shared>,
    queues: Queues,
    scope: Scope,
}

impl LockManager {
    /// Creates a `LockManager` over `backend` with the default settings.
    pub fn new(backend: impl LockBackend) -> Self {
        Self::builder(backend).build()
    }

    /// Returns a builder for a `LockManager` over `backend`.
    pub fn builder(backend: impl LockBackend) -> LockManagerBuilder {
        let capabilities = backend.capabilities();
        let queues = Queues::default();
        let freed = queues.clone();
        let shared = Shared {
            grace: capabilities.grace,
            least_pause: fairness::least_pause(&capabilities),
            backend: DynBackend::new(backend),
            clock: Arc::new(BootClock),
            store_clock: StoreClock::new(capabilities.clock),
            on_freed: Box::new(move |key| freed.freed(key)),
            tasks: TaskTracker::new(),
            owner: Owner::of_process(),
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            runtimes: Runtimes::default(),
            on_release_error: None,
        };
        LockManagerBuilder { shared, queues }
    }

    /// Returns a builder for one use of the lock on `key`, which is text or a [`LockKey`].
    ///
    /// An invalid key is reported when the lock is requested.
    pub fn lock(&self, key: impl TryInto<LockKey, Error: Into<Error>>) -> LockBuilder {
        let key = key.try_into().map_err(Into::into);
        LockBuilder::new(self.shared.clone(), self.queues.clone(), &self.scope, key)
    }

    /// Returns a `LockManager` for the same locks in a scope of their own. Cancelling `token` ends
    /// every lock that was acquired through the scope and every wait in it.
    ///
    /// A wait, or `run` with its work, ends with [`Aborted`](crate::ErrorKind::Aborted). A guard
    /// counts as [lost](crate::Loss::Cancelled) and is no longer renewed. The key becomes free when
    /// the guard is dropped or when its ttl is over. It does not become free earlier, because the
    /// work under the lock may not have noticed the cancellation yet.
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
    #[must_use = "the locks of the parent are not bound to the token"]
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
    pub async fn lookup_by_id(&self, lock_id: LockId) -> Result<Option<LockInfo>, Error> {
        Ok(self.lookup_raw(&lock_id.into()).await?.as_ref().map(LockInfo::from))
    }

    /// Returns a lock as the store keeps it, with its key and its id in clear. For debugging:
    /// anyone who has the id can release the lock.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn lookup_raw(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.shared.asked(Operation::Lookup, self.shared.backend.lookup(query)).await
    }

    /// Returns whether any holder has `key`.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn is_locked(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<bool, Error> {
        let key = key.try_into().map_err(Into::into)?;
        let asked = self.shared.asked(Operation::IsLocked, self.shared.backend.is_locked(&key));
        asked.await.map_err(|error| error.with_key(&key))
    }

    /// Returns whether `lock_id` holds a lock.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn owns(&self, lock_id: LockId) -> Result<bool, Error> {
        Ok(self.lookup_raw(&lock_id.into()).await?.is_some())
    }

    /// Returns a page of the held locks, as the store keeps them. For operators.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the [`capabilities`](Self::capabilities)
    /// do not include `list`; otherwise as [`lookup`](Self::lookup).
    pub async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        self.shared.asked(Operation::List, self.shared.backend.list(request)).await
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
    pub async fn force_release(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<Option<LockInfo>, Error> {
        let key = key.try_into().map_err(Into::into)?;
        let request = self.shared.backend.force_release(&key);
        let record = self.shared.asked(Operation::ForceRelease, request).await;
        // After an error as well: the lock may have been cleared.
        self.queues.freed(&key);
        let record = record.map_err(|error| error.with_key(&key))?;
        Ok(record.as_ref().map(LockInfo::from))
    }

    /// Returns the capabilities of the backend.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.backend.capabilities()
    }

    /// Checks the store's own settings and returns those that would break a guarantee.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.shared.asked(Operation::Check, self.shared.backend.check()).await
    }

    /// Returns the backend, for operations that only the backend offers.
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
    pub fn shutdown(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = ShutdownOutcome> + Send + use<> {
        let tasks = self.shared.tasks.clone();
        async move {
            // A tracker counts as done when it is closed and empty; closed, it still takes tasks.
            tasks.close();
            tokio::select! {
                biased;
                () = tasks.wait() => ShutdownOutcome::Drained,
                () = Timer::after(timeout) => ShutdownOutcome::TimedOut { pending: tasks.len() },
            }
        }
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
#[must_use = "what is still pending is left to the ttl"]
pub enum ShutdownOutcome {
    /// All background releases are done.
    Drained,
    /// Some releases are still waiting for the store. Their locks end with the ttl.
    TimedOut {
        /// The number of pending releases.
        pending: usize,
    },
}

/// Builds a [`LockManager`].
#[must_use = "a description locks nothing until it is built"]
pub struct LockManagerBuilder {
    shared: Shared,
    queues: Queues,
}

impl LockManagerBuilder {
    /// Sets the default owner label of all locks; by default `host:pid`.
    pub fn owner(mut self, owner: Owner) -> Self {
        self.shared.owner = owner;
        self
    }

    /// Sets the time limit of one request to the store, 10 s by default. It applies to every
    /// attempt to acquire, extend or release, and to every lookup, listing, forced release and
    /// check. A request that exceeds it is cancelled, and its outcome counts as unknown.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.shared.request_timeout = timeout;
        self
    }

    /// Sets a callback for a lock that could not be released in the background and is left to its
    /// ttl.
    ///
    /// The callback must not block. A panic in it is caught and logged.
    pub fn on_release_error(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.shared.on_release_error = Some(Arc::new(callback));
        self
    }

    /// Sets the runtime for renewals and background releases, by default the runtime of the task
    /// that acquires the lock.
    ///
    /// Set a separate runtime, and connect the backend on it, if blocking code may starve the
    /// runtime that does the work. Renewals then continue. Locks can then also be acquired and used
    /// outside every runtime, and guards that are dropped there are released.
    ///
    /// The runtime must be driven for as long as locks are used. After it has been shut down, the
    /// runtime of each caller takes its place.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.shared.runtimes.configure(runtime);
        self
    }

    /// Sets the clock for the validity of leases. For tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.shared.clock = clock;
        self
    }

    /// Builds the `LockManager`.
    pub fn build(self) -> LockManager {
        let Self { shared, queues } = self;
        LockManager { shared: Arc::new(shared), queues, scope: Scope::default() }
    }
}

impl fmt::Debug for LockManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockManagerBuilder").field(&self.shared.backend).finish()
    }
}
