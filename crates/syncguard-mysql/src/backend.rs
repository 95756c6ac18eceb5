//! The backend. Each operation is in the file of its name.

use std::{fmt, sync::Arc, time::Duration};

use syncguard_core::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef, RetirePage, RetireRequest,
    },
};

use crate::{
    acquire, check, config::MysqlConfig, connect, error::Failure, extend, lookup, operate, prune,
    release, retire, schema, store::Store,
};

/// Keeps locks in MySQL or MariaDB. It is cheap to clone, and the clones share their connections.
///
/// # Runtimes
///
/// A backend belongs to the tokio runtime on which it was opened. That runtime must have its timer
/// and its I/O enabled. Connections live on it, and statements run on it, whichever runtime the
/// caller is on. Once it has been shut down, every operation fails at once with
/// [`Internal`](syncguard_core::ErrorKind::Internal), and nothing is applied. A `current_thread`
/// runtime that no one drives does not answer; open the backend on a runtime that is always driven.
///
/// # Order
///
/// Extends are sent before releases and abandons, and those before acquires and lookups. One
/// connection is never used for acquires and lookups. An acquire that would wait for a connection
/// for longer than the [connect timeout](crate::MysqlConfig::connect_timeout) is refused at once
/// with [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable), and nothing is
/// applied.
///
/// The connections are closed when the last clone is dropped.
#[derive(Clone)]
pub struct MysqlBackend(Arc<Store>);

impl MysqlBackend {
    /// Connects, creates the table if it is missing, and checks the server's settings.
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value is invalid, or
    ///   the database is not named or does not exist.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached in time.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials, or the user may not create the table.
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if the table is missing or incomplete
    ///   and is not to be created, or a connection does not keep the settings that are set for it.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the table is for later versions
    ///   of this crate, or if the server's settings are unsafe and are to be
    ///   [refused](syncguard_core::UnsafeSettings::Refuse).
    pub async fn connect(config: MysqlConfig) -> Result<Self, Error> {
        let server = config.server();
        let failed =
            |failure: Failure| failure.into_error_at(&server).with_operation(Operation::Connect);
        Ok(Self(Arc::new(connect::connect(config).await.map_err(failed)?)))
    }

    /// Connects, creates the table if it is missing, records its revision, and disconnects. This is
    /// for operators, and for services whose own user may not do so. Any number of clients may call
    /// this at once, and any number of times.
    ///
    /// [`connect`](Self::connect) creates a missing table by default. If the table exists, it only
    /// reads.
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value is invalid, or
    ///   the database is not named or does not exist.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials, or the user may not create tables.
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if a table of this name exists and does
    ///   not have the expected form.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the table is for later versions
    ///   of this crate.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached.
    ///
    /// # Cancel safety
    ///
    /// The lock table is created last, and atomically.
    pub async fn setup_schema(config: &MysqlConfig) -> Result<(), Error> {
        let setting_up = async { schema::upgrade(&connect::open(config).await?).await };
        let failed = |failure: Failure| {
            failure.into_error_at(&config.server()).with_operation(Operation::SetUpSchema)
        };
        setting_up.await.map_err(failed)
    }

    /// Clears the rows of grants that have been over for `older_than`, and at least for the grace
    /// period. Returns the number of rows. The rows of keys stay, with their fences, until they
    /// are [retired](syncguard_core::LockManager::retire_counters);
    /// tombstones of abandoned ids are deleted after an hour at the earliest.
    ///
    /// This only saves space, and reduces how much `list` reads: the next grant of a key takes over
    /// its row. Every 64th release of a backend clears a few such rows and tombstones by itself,
    /// once they have been over for an hour.
    ///
    /// # Errors
    ///
    /// The same as for an operation that cannot reach the server. Rows cleared before the error
    /// stay cleared.
    pub async fn prune(&self, older_than: Duration) -> Result<u64, Error> {
        prune::prune(&self.0, older_than)
            .await
            .map_err(|failure| self.error(failure).with_operation(Operation::Prune))
    }

    fn error(&self, failure: Failure) -> Error {
        failure.into_error_at(&self.0.server)
    }
}

impl LockBackend for MysqlBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_list().with_shared()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let outcome = acquire::acquire(&self.0, request).await;
        outcome.map_err(|failure| self.error(failure))
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let outcome = extend::extend(&self.0, lock.lock_id, ttl).await;
        outcome.map_err(|failure| self.error(failure))
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let outcome = release::release(&self.0, lock.lock_id).await;
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
        self.0.counters.require_seeded()?;
        retire::retire_counters(&self.0, request).await.map_err(|failure| self.error(failure))
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        check::check(&self.0).await.map_err(|failure| self.error(failure))
    }
}

impl fmt::Debug for MysqlBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlBackend")
            .field("table", &self.0.table)
            .field("statement_timeout", &self.0.connections.statement_timeout)
            .finish_non_exhaustive()
    }
}
