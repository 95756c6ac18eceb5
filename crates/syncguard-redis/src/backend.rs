//! The backend itself. Each operation is in the file of its name.

use std::{fmt, sync::Arc};

use syncguard_core::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ClockAuthority, ExtendOutcome, Finding,
        ListRequest, LockBackend, LockPage, LockQuery, LockRecord, LockRef, RetirePage,
        RetireRequest,
    },
};

use crate::{
    acquire, check, config::RedisConfig, connect, error::Failure, extend, lookup, names::Shape,
    operate, release, retire, store::Store, wait,
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
        let failed =
            |failure: Failure| failure.into_error_at(&server).with_operation(Operation::Connect);
        Ok(Self(Arc::new(connect::connect(config).await.map_err(failed)?)))
    }

    fn error(&self, failure: Failure) -> Error {
        failure.into_error_at(&self.0.server)
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
            .with_shared()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let outcome = acquire::acquire(&self.0, request).await;
        outcome.map_err(|failure| self.error(failure))
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let outcome = extend::extend(&self.0, lock, ttl).await;
        outcome.map_err(|failure| self.error(failure))
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let outcome = release::release(&self.0, lock).await;
        outcome.map_err(|failure| self.error(failure))
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        lookup::lookup(&self.0, query).await.map_err(|failure| self.error(failure))
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let outcome = release::abandon(&self.0, lock_id, key).await;
        outcome.map_err(|failure| self.error(failure))
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        operate::list(&self.0, request).await.map_err(|failure| self.error(failure))
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        operate::force_release(&self.0, key).await.map_err(|failure| self.error(failure))
    }

    async fn retire_counters(&self, request: &RetireRequest) -> Result<RetirePage, Error> {
        self.0.options.counters.require_seeded()?;
        retire::retire_counters(&self.0, request).await.map_err(|failure| self.error(failure))
    }

    async fn released(&self, key: &LockKey) {
        wait::released(&self.0, key).await;
    }

    async fn turn(&self, key: &LockKey) {
        wait::turn(&self.0, key).await;
    }

    fn is_subscribed(&self, key: &LockKey) -> bool {
        wait::is_subscribed(&self.0, key)
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        check::check(&self.0).await.map_err(|failure| self.error(failure))
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
