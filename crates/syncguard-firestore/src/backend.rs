//! The backend itself. Each operation is in the file of its name.

use std::{fmt, sync::Arc};

use syncguard_core::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, Detached, ExtendOutcome, Finding,
        ListRequest, LockBackend, LockPage, LockQuery, LockRecord, LockRef, WakeUp,
    },
};

use tokio::runtime::Handle;

use crate::{
    acquire, check, config::FirestoreConfig, connect, error::Failure, extend, lookup, operate,
    release, store::Store, wait,
};

/// Keeps locks in Firestore.
///
/// A backend is cheap to clone; the clones share their connections. Each connection is opened when
/// it is first needed and closed when the last clone is dropped.
///
/// # Runtimes
///
/// A backend can be used from any tokio runtime with its timer and I/O drivers enabled, and from
/// several at once. Each runtime has a connection and a listener of its own, whose tasks run there.
/// So a runtime that has ended, or that is no longer driven, affects only its own callers, and a
/// guard can be released from any runtime. Outside a runtime every operation is refused with
/// [`Internal`](syncguard_core::ErrorKind::Internal) and is not applied.
#[derive(Clone)]
pub struct FirestoreBackend(Arc<Store>);

impl FirestoreBackend {
    /// Creates the backend. The first operation connects.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value breaks
    /// its rule.
    pub fn connect(config: FirestoreConfig) -> Result<Self, Error> {
        let store = connect::connect(config);
        Ok(Self(Arc::new(
            store.map_err(|failure| failure.into_error().with_operation(Operation::Connect))?,
        )))
    }

    fn error(&self, failure: Failure) -> Error {
        failure.into_error_at(&self.0.server)
    }
}

// An extend is detached: once begun, it continues without its caller. An extend that came too late
// has to be undone, and only the extend itself can know that.
//
// The other operations are not detached. Each writes in at most one commit that succeeds, so a
// future that is dropped before or after it leaves nothing half done. A commit that is in flight at
// that moment may or may not be made, as the caller of a dropped future must expect.
//
// None of them has a task of its own while its caller polls it. An operation that is no longer
// polled holds nothing that others wait for: the connection is kept by a task of the driver, which
// receives answers whether or not they are read.
impl LockBackend for FirestoreBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_wake_up(WakeUp::Notified).with_list().with_shared()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let outcome = acquire::acquire(&self.0, request).await;
        outcome.map_err(|failure| self.error(failure))
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let (store, asked) = (self.0.clone(), lock.clone());
        let runtime = Handle::try_current().map_err(|_| self.error(Failure::NoRuntime))?;
        let extend = async move { extend::extend(&store, &asked, ttl).await };
        let outcome = Detached::new(extend, runtime).await;
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

    fn is_subscribed(&self, key: &LockKey) -> bool {
        wait::is_subscribed(&self.0, key)
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        check::check(&self.0).await.map_err(|failure| self.error(failure))
    }
}

impl fmt::Debug for FirestoreBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirestoreBackend").field("layout", &self.0.layout).finish_non_exhaustive()
    }
}
