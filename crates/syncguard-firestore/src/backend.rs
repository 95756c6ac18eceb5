//! The backend itself: each operation is in the file of its name.

use std::{fmt, sync::Arc};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ExtendOutcome, Finding, ListRequest,
    LockBackend, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef, Operation,
    ReleaseOutcome, Ttl, WakeUp,
};

use crate::{
    acquire, check, detached::Detached, error::Failure, extend, lookup, operate, release,
    store::Store, wait,
};

/// Keeps locks in Firestore. Cheap to clone; the clones share their connections, each of which is made
/// when it is first needed and closed when the last clone is dropped.
///
/// # Runtimes
///
/// It can be used from any tokio runtime with its timer and its I/O on, and from several at once. Each
/// runtime has a connection and a listener of its own, whose tasks run there. So a runtime that has
/// ended, or that no one drives any more, affects only its own callers, and whichever runtime has a guard
/// can release it. Outside a runtime every operation is refused with
/// [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) and is not applied.
#[derive(Clone)]
pub struct FirestoreBackend(pub(crate) Arc<Store>);

// An extend is detached: once begun, it goes on without its caller. One that came too late has to be taken
// back, which nobody but itself could know.
//
// Nothing else is. Each writes in at most one commit that is made, and dropped before or behind that
// it leaves nothing half done. A commit that is on its way then may be made or not; its caller knows that
// of a future that it drops.
//
// None of them has a task of its own while its caller polls it. One that nobody polls any more holds
// nothing that others wait for: the connection is kept by a task of the driver, which takes in answers
// whether or not anybody reads them.
impl LockBackend for FirestoreBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_wake_up(WakeUp::Notified).with_list()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let outcome = acquire::acquire(&self.0, request).await.map_err(during(Operation::Acquire));
        outcome.map_err(|error| error.with_key(&request.key).with_lock_id(request.lock_id))
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let (store, asked) = (self.0.clone(), lock.clone());
        let extend = Detached::new(async move { extend::extend(&store, &asked, ttl).await });
        let outcome = extend.await.map_err(during(Operation::Extend));
        outcome.map_err(|error| about(error, lock))
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let outcome = release::release(&self.0, lock).await.map_err(during(Operation::Release));
        outcome.map_err(|error| about(error, lock))
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let record = lookup::lookup(&self.0, query).await.map_err(during(Operation::Lookup));
        record.map_err(|error| match query {
            LockQuery::ByKey(key) => error.with_key(key),
            LockQuery::ById(lock_id) => error.with_lock_id(*lock_id),
        })
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let done = release::abandon(&self.0, lock_id, key).await;
        let done = done.map_err(during(Operation::Abandon));
        done.map_err(|error| error.with_key(key).with_lock_id(lock_id))
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        operate::list(&self.0, request).await.map_err(during(Operation::List))
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        let ended = operate::force_release(&self.0, key).await;
        let ended = ended.map_err(during(Operation::ForceRelease));
        ended.map_err(|error| error.with_key(key))
    }

    async fn released(&self, key: &LockKey) {
        wait::released(&self.0, key).await;
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        check::check(&self.0).await.map_err(during(Operation::Check))
    }
}

impl fmt::Debug for FirestoreBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirestoreBackend").field("layout", &self.0.layout).finish_non_exhaustive()
    }
}

fn during(operation: Operation) -> impl FnOnce(Failure) -> Error {
    move |failure| failure.into_error(operation)
}

fn about(error: Error, lock: &LockRef) -> Error {
    let error = error.with_lock_id(lock.lock_id);
    match &lock.key {
        Some(key) => error.with_key(key),
        None => error,
    }
}
