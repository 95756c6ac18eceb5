//! The backend itself: each operation is in the file of its name.

use std::{fmt, path::PathBuf, sync::Arc};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ExtendOutcome, Finding, ListRequest,
    LockBackend, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef, Operation,
    ReleaseOutcome, Ttl, WakeUp,
};

use crate::{
    SqliteConfig, acquire, check,
    config::Target,
    connection::{Lane, Role, Turns},
    error::Failure,
    extend, lookup, operate, release,
    wait::{self, Watch},
};

/// Keeps locks in a SQLite file, for all processes of one host. Cheap to clone; the clones share three
/// connections: one that grants, one that releases, one that reads.
///
/// It needs a tokio runtime with its timer on. The connections are closed when the last clone is
/// dropped.
#[derive(Clone)]
pub struct SqliteBackend(Arc<Store>);

/// What the operations work with.
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) writer: Arc<Lane>,
    pub(crate) releaser: Arc<Lane>,
    pub(crate) reader: Arc<Lane>,
    pub(crate) watch: Watch,
}

impl SqliteBackend {
    /// Opens the file at `path`, which is created where it is missing, with the default settings.
    ///
    /// # Errors
    ///
    /// As [`SqliteConfig::connect`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        SqliteConfig::new(path).connect().await
    }

    pub(crate) async fn connect(target: Target) -> Result<Self, Failure> {
        let target = Arc::new(target);
        let writes = Turns::default();
        Ok(Self(Arc::new(Store {
            path: target.path.clone(),
            writer: Lane::open(&target, Role::Durable, writes.clone()).await?,
            releaser: Lane::open(&target, Role::Prompt, writes).await?,
            reader: Lane::open(&target, Role::Read, Turns::default()).await?,
            watch: Watch::default(),
        })))
    }

    /// Makes the core's errors of an operation's failures.
    fn error(&self, operation: Operation) -> impl Fn(Failure) -> Error {
        move |failure| failure.into_error(operation, &self.0.path)
    }
}

impl LockBackend for SqliteBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_wake_up(WakeUp::Watched).with_list()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let outcome =
            acquire::acquire(&self.0, request).await.map_err(self.error(Operation::Acquire));
        outcome.map_err(|error| error.with_key(&request.key).with_lock_id(request.lock_id))
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let outcome = extend::extend(&self.0, lock.lock_id, ttl).await;
        outcome.map_err(self.error(Operation::Extend)).map_err(|error| about(error, lock))
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let outcome = release::release(&self.0, lock.lock_id).await;
        outcome.map_err(self.error(Operation::Release)).map_err(|error| about(error, lock))
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let record = lookup::lookup(&self.0, query).await.map_err(self.error(Operation::Lookup));
        record.map_err(|error| match query {
            LockQuery::ByKey(key) => error.with_key(key),
            LockQuery::ById(lock_id) => error.with_lock_id(*lock_id),
        })
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let outcome = release::abandon(&self.0, lock_id).await;
        let outcome = outcome.map_err(self.error(Operation::Abandon));
        outcome.map_err(|error| error.with_key(key).with_lock_id(lock_id))
    }

    async fn is_locked(&self, key: &LockKey) -> Result<bool, Error> {
        let locked = lookup::is_locked(&self.0, key).await.map_err(self.error(Operation::Lookup));
        locked.map_err(|error| error.with_key(key))
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        operate::list(&self.0, request).await.map_err(self.error(Operation::List))
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        let ended = operate::force_release(&self.0, key).await;
        let ended = ended.map_err(self.error(Operation::ForceRelease));
        ended.map_err(|error| error.with_key(key))
    }

    async fn released(&self, key: &LockKey) {
        wait::released(&self.0, key).await;
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        check::check(&self.0).await.map_err(self.error(Operation::Check))
    }
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBackend").field("path", &self.0.path).finish_non_exhaustive()
    }
}

fn about(error: Error, lock: &LockRef) -> Error {
    let error = error.with_lock_id(lock.lock_id);
    match &lock.key {
        Some(key) => error.with_key(key),
        None => error,
    }
}
