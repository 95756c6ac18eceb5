//! The backend itself. Each operation is in the file of its name.

use std::{fmt, sync::Arc};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, ClockAuthority, Error, ExtendOutcome, Finding,
    ListRequest, LockBackend, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef, Operation,
    ReleaseOutcome, Ttl,
};

use crate::{
    acquire, check, config::RedisConfig, connect, error::Failure, extend, lookup, names::Shape,
    operate, release, store::Store, wait,
};

/// Keeps locks in Redis or Valkey.
///
/// A backend is cheap to clone. All clones share one connection (one per node of a cluster), and a
/// second one while any caller waits for a release. The connections are closed when the last clone
/// is dropped.
///
/// # Runtimes
///
/// A backend belongs to the tokio runtime on which it was opened, which needs its timer and I/O
/// drivers enabled. The connections live on that runtime, and so does the listener that wakes
/// waiters. The operations may be called from any runtime, or from outside of one.
///
/// Once that runtime has ended, every operation returns an
/// [`Internal`](syncguard_core::ErrorKind::Internal) error immediately, and nothing is sent. A
/// request that was in flight at that moment may have been applied, and its error reports that. If
/// the runtime exists but is not driven, as can happen with a single-threaded one, an operation
/// that is called from another runtime returns a
/// [`NetworkTimeout`](syncguard_core::ErrorKind::NetworkTimeout) after twice the command timeout
/// plus the connect timeout.
#[derive(Clone)]
pub struct RedisBackend(Arc<Store>);

impl RedisBackend {
    /// Connects and checks the server's settings. The backend belongs to the runtime on which this
    /// is called.
    ///
    /// # Errors
    ///
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) outside of a tokio runtime.
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value breaks its
    ///   rule.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached in time.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the server's settings are
    ///   unsafe and the configuration [refuses](syncguard_core::UnsafeSettings::Refuse) that.
    pub async fn connect(config: RedisConfig) -> Result<Self, Error> {
        let server = config.server();
        let failed = |failure: Failure| failure.into_error_at(&server, Operation::Connect);
        Ok(Self(Arc::new(connect::connect(config).await.map_err(failed)?)))
    }

    fn failed(&self, operation: Operation) -> impl FnOnce(Failure) -> Error {
        move |failure| failure.into_error_at(&self.0.server, operation)
    }
}

impl LockBackend for RedisBackend {
    fn capabilities(&self) -> Capabilities {
        let clock = match self.0.layout.shape() {
            Shape::Plain => ClockAuthority::Store,
            Shape::Tagged => ClockAuthority::Nodes,
        };
        Capabilities::new()
            .with_clock(clock)
            .with_grace(self.0.options.grace)
            .with_wake_up(self.0.waiters.wake_up())
            .with_list()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let outcome =
            acquire::acquire(&self.0, request).await.map_err(self.failed(Operation::Acquire));
        outcome.map_err(|error| error.with_key(&request.key).with_lock_id(request.lock_id))
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let outcome =
            extend::extend(&self.0, lock, ttl).await.map_err(self.failed(Operation::Extend));
        outcome.map_err(|error| about(error, lock))
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let outcome =
            release::release(&self.0, lock).await.map_err(self.failed(Operation::Release));
        outcome.map_err(|error| about(error, lock))
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let record = lookup::lookup(&self.0, query).await.map_err(self.failed(Operation::Lookup));
        record.map_err(|error| match query {
            LockQuery::ByKey(key) => error.with_key(key),
            LockQuery::ById(lock_id) => error.with_lock_id(*lock_id),
        })
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let done = release::abandon(&self.0, lock_id, key).await;
        let done = done.map_err(self.failed(Operation::Abandon));
        done.map_err(|error| error.with_key(key).with_lock_id(lock_id))
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        operate::list(&self.0, request).await.map_err(self.failed(Operation::List))
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        let ended = operate::force_release(&self.0, key).await;
        let ended = ended.map_err(self.failed(Operation::ForceRelease));
        ended.map_err(|error| error.with_key(key))
    }

    async fn released(&self, key: &LockKey) {
        wait::released(&self.0, key).await;
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        check::check(&self.0).await.map_err(self.failed(Operation::Check))
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend")
            .field("layout", &self.0.layout)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

fn about(error: Error, lock: &LockRef) -> Error {
    let error = error.with_lock_id(lock.lock_id);
    match &lock.key {
        Some(key) => error.with_key(key),
        None => error,
    }
}
