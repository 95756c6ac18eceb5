use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{fairness, queue::Queues, runtime::Runtimes, shared::Shared, store_clock::StoreClock};
use crate::{BootClock, Clock, DynBackend, Error, Owner, backend::LockBackend};

/// The default limit on the time of one request to the store.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a [`LockManager`](crate::LockManager).
#[must_use = "a builder has no effect until `build`"]
pub struct LockManagerBuilder {
    pub(super) shared: Shared,
    pub(super) queues: Queues,
}

impl LockManagerBuilder {
    pub(super) fn new(backend: impl LockBackend) -> Self {
        let capabilities = backend.capabilities();
        let queues = Queues::default();
        let shared = Shared {
            grace: capabilities.grace,
            min_pause: fairness::min_pause(&capabilities),
            backend: DynBackend::new(backend),
            clock: Arc::new(BootClock),
            sleepers: Arc::default(),
            store_clock: StoreClock::new(capabilities.clock),
            holds: Box::new(queues.clone()),
            tasks: TaskTracker::new(),
            owner: Owner::of_process(),
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            runtimes: Runtimes::default(),
            on_release_error: None,
        };
        Self { shared, queues }
    }

    /// Sets the default owner label of all locks; by default `host:pid`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, backend::LockBackend};
    /// # async fn example(backend: impl LockBackend) -> Result<(), Error> {
    /// use syncguard_core::Owner;
    ///
    /// let locks = LockManager::builder(backend).owner(Owner::new("ci-7")?).build();
    /// let _guard = locks.lock("deploy:prod").acquire().await?;
    /// let found = locks.lookup("deploy:prod").await?.unwrap();
    /// assert_eq!(found.owner.unwrap().as_str(), "ci-7");
    /// # Ok(()) }
    /// ```
    pub fn owner(mut self, owner: Owner) -> Self {
        self.shared.owner = owner;
        self
    }

    /// Sets the time limit of one request to the store, 10 s by default. It applies to every
    /// attempt to acquire, extend or release, and to every lookup, listing, forced release and
    /// check. A request that exceeds it is cancelled, and its outcome counts as unknown.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, LockManager, NullBackend};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let locks = LockManager::builder(NullBackend::default()).request_timeout(2.secs()).build();
    /// assert!(!locks.is_locked("report").await?); // waits for at most two seconds
    /// # Ok(()) }
    /// ```
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.shared.request_timeout = timeout;
        self
    }

    /// Sets a callback for a lock that could not be released in the background and is left to its
    /// ttl.
    ///
    /// The callback must not block. A panic in it is caught and logged.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use syncguard_core::{ErrorKind, LockManager, NullBackend};
    ///
    /// let (errors, reports) = mpsc::channel();
    /// let locks = LockManager::builder(NullBackend::default())
    ///     .on_release_error(move |error| {
    ///         let _ = errors.send(error.kind());
    ///     })
    ///     .build();
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// let guard = runtime.block_on(locks.lock("key").acquire())?;
    /// drop(runtime);
    /// drop(guard); // no runtime is left to release the lock
    /// assert_eq!(reports.try_recv()?, ErrorKind::Aborted);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_release_error(mut self, callback: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.shared.on_release_error = Some(Arc::new(callback));
        self
    }

    /// Sets the runtime for renewals and background releases, by default the runtime of the task
    /// that acquires the lock.
    ///
    /// Set a separate runtime, and connect the backend on it, if blocking code may starve the
    /// runtime that runs the work. Renewals then continue. Locks can then also be acquired and used
    /// outside every runtime, and guards that are dropped there are released.
    ///
    /// The runtime must be driven for as long as locks are used. After it has been shut down, the
    /// runtime of each caller is used instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, LockManager, NullBackend, ShutdownOutcome};
    ///
    /// let background = tokio::runtime::Builder::new_multi_thread()
    ///     .worker_threads(1)
    ///     .enable_all()
    ///     .build()?;
    /// let locks = LockManager::builder(NullBackend::default())
    ///     .runtime(background.handle().clone())
    ///     .build();
    /// drop(background.block_on(locks.lock("key").acquire())?); // dropped outside every runtime
    /// let shutdown = background.block_on(locks.shutdown(10.secs()));
    /// assert_eq!(shutdown, ShutdownOutcome::Drained);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.shared.runtimes.configure(runtime);
        self
    }

    /// Sets the clock for the validity of leases. For tests.
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
    /// clock.advance(19.secs()); // the ttl less the margin
    /// assert!(!guard.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.shared.clock = clock;
        self
    }
}

impl fmt::Debug for LockManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockManagerBuilder").field(&self.shared.backend).finish()
    }
}
