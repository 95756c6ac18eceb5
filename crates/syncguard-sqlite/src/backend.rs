//! The backend. Each operation is in the file of its name.

use std::{fmt, future::pending, sync::Arc};

use syncguard_core::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef, WakeUp,
    },
};

use crate::{
    acquire, check,
    config::SqliteConfig,
    connect,
    error::Failure,
    extend, lookup, operate, release,
    store::Store,
    turn::Rank,
    wait,
    worker::{Ticket, Worker},
};

/// Keeps locks in an SQLite file, for all processes of one host. It is cheap to clone. The clones
/// share three connections: one that grants, one that releases, one that reads.
///
/// A thread of the backend carries out all requests. Its futures can therefore be polled on any
/// runtime or executor, and a future that is not polled again does not block any other. Requests
/// that wait for each other are served by rank: extends, then releases and abandons, then all
/// others, each in the order of arrival. After the last clone is dropped, the thread ends and the
/// connections are closed.
///
/// # Cancel safety
///
/// A request whose future is dropped while it waits in the queue changes nothing. A request that
/// has begun to write is completed.
#[derive(Clone)]
pub struct SqliteBackend(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    worker: Worker,
}

impl SqliteBackend {
    /// Opens the file, switches it to a write-ahead log, creates the tables if they are missing,
    /// and checks for unsafe settings. Any number of processes may do so at once. A file that this
    /// creates, and the two that SQLite keeps beside it, can be read and written only by their
    /// owner (mode 0600).
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if the path names no file
    ///   (`:memory:`, a URI, an empty path) or is not UTF-8, or if the busy timeout is above
    ///   [`MAX_BUSY_TIMEOUT`](SqliteConfig::MAX_BUSY_TIMEOUT).
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the file cannot
    ///   be opened, or is in use for longer than the busy timeout.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the file may not be written.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if a newer version of this crate
    ///   created the tables, if the file has several hard links or is itself a mount point, or if
    ///   settings are unsafe and are to be [refused](syncguard_core::UnsafeSettings::Refuse).
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if the file is not an SQLite database or
    ///   is damaged, or if its log was deleted or replaced while this process had it open.
    pub async fn connect(config: SqliteConfig) -> Result<Self, Error> {
        let (path, unsafe_settings) = (config.path.clone(), config.unsafe_settings);
        let opened = connect::connect(config).await;
        let opened =
            opened.map_err(|failure| failure.into_error(&path).with_operation(Operation::Connect));
        let (store, worker) = opened?;
        let backend = Self(Arc::new(Inner { store: Arc::new(store), worker }));
        unsafe_settings.enforce(backend.check()).await?;
        Ok(backend)
    }

    /// Carries out an operation on the backend's thread.
    async fn run<T, F>(
        &self,
        operation: Operation,
        request: impl FnOnce(Arc<Store>, Ticket) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let store = self.0.store.clone();
        let outcome = self.0.worker.call(rank(operation), |ticket| request(store, ticket)).await;
        outcome.map_err(|failure| failure.into_error(&self.0.store.path))
    }
}

/// Extends come before releases, and releases before everything else.
fn rank(operation: Operation) -> Rank {
    match operation {
        Operation::Extend => Rank::Extend,
        Operation::Release | Operation::Abandon => Rank::Release,
        _ => Rank::Other,
    }
}

impl LockBackend for SqliteBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_shared().with_wake_up(WakeUp::Watched).with_list()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let asked = request.clone();
        let outcome = self.run(Operation::Acquire, |store, ticket| async move {
            acquire::acquire(&store, &ticket, &asked).await
        });
        outcome.await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let lock_id = lock.lock_id;
        let outcome = self.run(Operation::Extend, move |store, ticket| async move {
            extend::extend(&store, &ticket, lock_id, ttl).await
        });
        outcome.await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let lock_id = lock.lock_id;
        let outcome = self.run(Operation::Release, move |store, ticket| async move {
            release::release(&store, &ticket, lock_id).await
        });
        outcome.await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let asked = query.clone();
        let record = self.run(Operation::Lookup, |store, ticket| async move {
            lookup::lookup(&store, &ticket, &asked).await
        });
        record.await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let key = key.clone();
        let outcome = self.run(Operation::Abandon, move |store, ticket| async move {
            release::abandon(&store, &ticket, lock_id, &key).await
        });
        outcome.await
    }

    async fn is_locked(&self, key: &LockKey) -> Result<bool, Error> {
        let asked = key.clone();
        let locked = self.run(Operation::IsLocked, |store, ticket| async move {
            lookup::is_locked(&store, &ticket, &asked).await
        });
        locked.await
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        let request = request.clone();
        let page = self.run(Operation::List, |store, ticket| async move {
            operate::list(&store, &ticket, &request).await
        });
        page.await
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        let asked = key.clone();
        let ended = self.run(Operation::ForceRelease, |store, ticket| async move {
            operate::force_release(&store, &ticket, &asked).await
        });
        ended.await
    }

    async fn released(&self, key: &LockKey) {
        let key = key.clone();
        let released = self.run(Operation::Lookup, |store, ticket| async move {
            wait::released(&store, &ticket, &key).await
        });
        if let Err(error) = released.await {
            tracing::debug!(%error, "no release can be noticed; the caller's schedule goes on");
            pending::<()>().await;
        }
    }

    fn is_subscribed(&self, _key: &LockKey) -> bool {
        // The watcher notices the changes of all keys.
        self.0.store.waiters.is_watching()
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        let findings = self.run(Operation::Check, |store, ticket| async move {
            check::check(&store, &ticket).await
        });
        findings.await
    }
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBackend").field("path", &self.0.store.path).finish_non_exhaustive()
    }
}
