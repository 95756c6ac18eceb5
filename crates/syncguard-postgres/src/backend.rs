//! The backend. Each operation is in the file of its name.

use std::{fmt, sync::Arc, time::Duration};

use syncguard_core::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef,
    },
};

use crate::{
    acquire, check, config::PostgresConfig, connect, error::Failure, extend, lookup, operate,
    prune, release, schema, store::Store, wait,
};

/// Keeps locks in PostgreSQL. It is cheap to clone. The clones share their connections, and one
/// more for as long as a caller waits for a release.
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
/// connection is never used for acquires and lookups. Extends that wait for a connection are sent
/// together in one statement, those first whose [time](syncguard_core::backend::LockRef::time_left) is the
/// shortest. Acquires in shared mode and releases of shared grants wait for the previous request of
/// this backend for their key, and are then sent together. An acquire that would wait for a connection for longer than the [connect
/// timeout](crate::PostgresConfig::connect_timeout) is refused at once with
/// [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable), and nothing is applied.
///
/// The backend's own connections are closed when the last clone is dropped.
#[derive(Clone)]
pub struct PostgresBackend(Arc<Store>);

impl PostgresBackend {
    /// Connects, creates the tables that do not exist, and checks the server's settings. An
    /// existing table is left unchanged: in the tables of a TypeScript client no owner is stored,
    /// and in those and in the tables of earlier versions there is no shared mode, until
    /// [`setup_schema`](Self::setup_schema) has added the columns.
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value is invalid, or
    ///   the database does not exist.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached in time.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials, or the role may not create the tables.
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if the tables are missing or incomplete
    ///   and are not to be created.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the tables are for later
    ///   versions of this crate, or if the server's settings are unsafe and are to be
    ///   [refused](syncguard_core::UnsafeSettings::Refuse).
    pub async fn connect(config: PostgresConfig) -> Result<Self, Error> {
        let server = config.server();
        let failed =
            |failure: Failure| failure.into_error_at(&server).with_operation(Operation::Connect);
        Ok(Self(Arc::new(connect::connect(config).await.map_err(failed)?)))
    }

    /// Connects, creates what is missing of the tables, adds the columns that the tables of a
    /// TypeScript client or of an earlier version lack, creates the functions of shared mode,
    /// records the revision, and disconnects. This is for operators, and
    /// for services whose own role may not do so. Any number of clients may call this at once, and
    /// any number of times.
    ///
    /// [`connect`](Self::connect) also creates missing tables, but never changes an existing one.
    /// Backends that connect afterwards use the added columns. Adding them makes one acquire and
    /// one release fail on each connection of a running TypeScript client ("cached plan must not
    /// change result type"); Rust clients are not affected.
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value is invalid, or
    ///   the database does not exist.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials, or the role may not create tables.
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if tables of these names exist and do
    ///   not have the expected form.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the tables are for later
    ///   versions of this crate.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached, or if a table that has to be changed is in use for longer than a second, or
    ///   the lock timeout if that is shorter. The step never waits longer, because all later users
    ///   of the table wait behind it.
    ///
    /// # Cancel safety
    ///
    /// The change is atomic: either everything is changed or nothing.
    pub async fn setup_schema(config: &PostgresConfig) -> Result<(), Error> {
        let setting_up = async { schema::set_up(&connect::open(config).await?).await };
        let failed = |failure: Failure| {
            failure.into_error_at(&config.server()).with_operation(Operation::SetUpSchema)
        };
        setting_up.await.map_err(failed)
    }

    /// Deletes the rows of grants that have been over for `older_than`, and at least for the grace
    /// period. Returns the number of rows deleted. Tombstones of abandoned ids are kept for an hour
    /// in any case; fence counters are kept forever.
    ///
    /// This only saves space: the next grant of a key takes over its row. Every 64th release of a
    /// backend deletes a few such rows by itself, once they have been over for an hour.
    ///
    /// # Errors
    ///
    /// The same as for an operation that cannot reach the server. Rows deleted before the error
    /// stay deleted.
    pub async fn prune(&self, older_than: Duration) -> Result<u64, Error> {
        prune::prune(&self.0, older_than)
            .await
            .map_err(|failure| self.error(failure).with_operation(Operation::Prune))
    }

    fn error(&self, failure: Failure) -> Error {
        failure.into_error_at(&self.0.server)
    }
}

impl LockBackend for PostgresBackend {
    /// Includes shared mode if the tables had its columns when the backend connected.
    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::new().with_wake_up(self.0.waiters.wake_up()).with_list();
        match self.0.sql.columns.has_shared_mode() {
            true => capabilities.with_shared(),
            false => capabilities,
        }
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

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend")
            .field("tables", &self.0.tables)
            .field("limits", &self.0.connections.limits)
            .finish_non_exhaustive()
    }
}
