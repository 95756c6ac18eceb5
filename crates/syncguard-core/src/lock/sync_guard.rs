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

/// How long one request to the store may take unless told otherwise.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Locks by name over one backend. Cheap to clone; all clones share one queue for each key and one
/// set of background tasks.
///
/// # Examples
///
/// ```
/// use syncguard_core::{DurationExt, Error, LockBackend, SyncGuard};
///
/// async fn deploy(backend: impl LockBackend) -> Result<(), Error> {
///     let locks = SyncGuard::new(backend);
///     let guard = locks.lock("deploy:prod").wait(5.secs()).owner("ci-7").acquire().await?;
///     println!("deploying under fence {}", guard.fence()?);
///     guard.release().await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct SyncGuard {
    pub(super) shared: Arc<Shared>,
    queues: Queues,
    scope: Scope,
}

impl SyncGuard {
    /// Locks over `backend` with the default settings.
    pub fn new(backend: impl LockBackend) -> Self {
        Self::builder(backend).build()
    }

    /// Starts to describe a `SyncGuard`.
    pub fn builder(backend: impl LockBackend) -> SyncGuardBuilder {
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
        SyncGuardBuilder { shared, queues }
    }

    /// Starts to describe one use of the lock on `key`: text or a [`LockKey`].
    ///
    /// A key that breaks its rule is reported when the lock is asked for.
    pub fn lock(&self, key: impl TryInto<LockKey, Error: Into<Error>>) -> LockBuilder {
        let key = key.try_into().map_err(Into::into);
        LockBuilder::new(self.shared.clone(), self.queues.clone(), &self.scope, key)
    }

    /// Gives the same locks as a scope of their own: when `token` is cancelled, all that were asked
    /// for through the scope end, and all that are waited for are given up.
    ///
    /// A wait, or `run` with its work, ends with [`Aborted`](crate::ErrorKind::Aborted). A guard
    /// counts as [lost](crate::Loss::Cancelled) and is renewed no more; the key is free as soon as
    /// the guard is dropped, or when its ttl is over. It is not free before that, because whoever
    /// works under the lock may not have noticed yet.
    ///
    /// The child of a child ends with either token. What [`keep`](crate::LockGuard::keep) has left
    /// at the store stays there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, SyncGuard};
    /// # async fn example(locks: SyncGuard) -> Result<(), Error> {
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

    /// Shows who holds `key`, `None` where nobody does. For diagnosis: the answer is old when it
    /// arrives.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a key that breaks its rule,
    /// [`NetworkTimeout`](crate::ErrorKind::NetworkTimeout) where the store does not answer within the
    /// [request timeout](SyncGuardBuilder::request_timeout), or the error of the backend.
    pub async fn lookup(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<Option<LockInfo>, Error> {
        let key: LockKey = key.try_into().map_err(Into::into)?;
        Ok(self.lookup_raw(&key.into()).await?.as_ref().map(LockInfo::from))
    }

    /// Shows what `lock_id` holds, `None` where it holds nothing.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn lookup_by_id(&self, lock_id: LockId) -> Result<Option<LockInfo>, Error> {
        Ok(self.lookup_raw(&lock_id.into()).await?.as_ref().map(LockInfo::from))
    }

    /// Shows a lock as the store keeps it, with its key and its id in clear. For debugging: whoever
    /// sees the id can release the lock.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn lookup_raw(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.shared.asked(Operation::Lookup, self.shared.backend.lookup(query)).await
    }

    /// Tells whether anybody holds `key`.
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

    /// Tells whether `lock_id` holds a lock.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn owns(&self, lock_id: LockId) -> Result<bool, Error> {
        Ok(self.lookup_raw(&lock_id.into()).await?.is_some())
    }

    /// Gives a page of the locks that are held, as the store keeps them. For operators.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the [`capabilities`](Self::capabilities)
    /// have no `list`; otherwise as [`lookup`](Self::lookup).
    pub async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        self.shared.asked(Operation::List, self.shared.backend.list(request)).await
    }

    /// Takes the lock on `key` away from whoever holds it and shows what it was. For operators: the
    /// holder goes on until its next renewal tells it.
    ///
    /// `None` states that no one held it.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list). A record that cannot be read is cleared, and reported as an
    /// [`Internal`](crate::ErrorKind::Internal) error that names what could not be read. Its
    /// [`has_applied`](Error::has_applied) is true: the key is free.
    pub async fn force_release(
        &self,
        key: impl TryInto<LockKey, Error: Into<Error>>,
    ) -> Result<Option<LockInfo>, Error> {
        let key = key.try_into().map_err(Into::into)?;
        let request = self.shared.backend.force_release(&key);
        let record = self.shared.asked(Operation::ForceRelease, request).await;
        // After an error as well: what it is about may have been cleared.
        self.queues.freed(&key);
        let record = record.map_err(|error| error.with_key(&key))?;
        Ok(record.as_ref().map(LockInfo::from))
    }

    /// Says what the backend can do.
    pub fn capabilities(&self) -> Capabilities {
        self.shared.backend.capabilities()
    }

    /// Looks at the store's own settings and reports those that would break a promise.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.shared.asked(Operation::Check, self.shared.backend.check()).await
    }

    /// Returns the backend, for what only backends do.
    pub fn backend(&self) -> &DynBackend {
        &self.shared.backend
    }

    /// Waits until every release that goes on in the background is done, for `timeout` at the most.
    ///
    /// Call it before the runtime ends, after the last guard is gone. Guards that are still held
    /// are left alone, and locks can be asked for afterwards as before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the background goes on whether or not anybody waits.
    pub fn shutdown(&self, timeout: Duration) -> impl Future<Output = Shutdown> + Send + use<> {
        let tasks = self.shared.tasks.clone();
        async move {
            // A tracker counts as done when it is closed and empty; closed, it still takes tasks.
            tasks.close();
            tokio::select! {
                biased;
                () = tasks.wait() => Shutdown::Drained,
                () = Timer::after(timeout) => Shutdown::TimedOut { pending: tasks.len() },
            }
        }
    }
}

impl fmt::Debug for SyncGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncGuard")
            .field("backend", &self.shared.backend)
            .field("owner", &self.shared.owner)
            .finish_non_exhaustive()
    }
}

/// How a [shutdown](SyncGuard::shutdown) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is still pending is left to the ttl"]
pub enum Shutdown {
    /// Nothing is left to do.
    Drained,
    /// So many releases still wait for the store. Their ttl ends the locks.
    TimedOut {
        /// How many.
        pending: usize,
    },
}

/// Describes a [`SyncGuard`].
#[must_use = "a description locks nothing until it is built"]
pub struct SyncGuardBuilder {
    shared: Shared,
    queues: Queues,
}

impl SyncGuardBuilder {
    /// Sets the label of all locks that do not set their own; by default `host:pid`.
    pub fn owner(mut self, owner: Owner) -> Self {
        self.shared.owner = owner;
        self
    }

    /// Sets how long one request to the store may take, 10 s by default: every attempt to acquire,
    /// extend or release, and every lookup, listing, forced release and check. A request that takes
    /// longer is cut off, and its outcome counts as unknown.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.shared.request_timeout = timeout;
        self
    }

    /// Calls back when a lock could not be released in the background and is left to its ttl.
    ///
    /// The callback must not block. It may panic; that is logged.
    pub fn on_release_error(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.shared.on_release_error = Some(Arc::new(callback));
        self
    }

    /// Sets the runtime on which renewals and background releases run, by default that of the task
    /// that asks for the lock.
    ///
    /// Set a separate runtime, and connect the backend on it, where blocking code may starve the one
    /// that does the work: renewals then go on all the same. With it, locks can also be acquired and
    /// used outside every runtime, and guards that are dropped there are released.
    ///
    /// The runtime must be driven for as long as locks are used. Once it has been shut down, the
    /// runtime of each caller takes its place.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.shared.runtimes.configure(runtime);
        self
    }

    /// Sets the clock by which leases are judged. For tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.shared.clock = clock;
        self
    }

    /// Finishes the description.
    pub fn build(self) -> SyncGuard {
        let Self { shared, queues } = self;
        SyncGuard { shared: Arc::new(shared), queues, scope: Scope::default() }
    }
}

impl fmt::Debug for SyncGuardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncGuardBuilder").field(&self.shared.backend).finish()
    }
}
