use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ExtendOutcome, Finding, ListRequest,
    LockBackend, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef, ReleaseOutcome, Ttl,
};

/// A backend chosen at run time. Cheap to clone; the clones share one backend.
///
/// It costs one allocation per operation.
#[derive(Clone)]
pub struct DynBackend(Arc<dyn Erased>);

impl DynBackend {
    /// Erases the type of `backend`.
    pub fn new(backend: impl LockBackend) -> Self {
        Self(Arc::new(backend))
    }
}

impl fmt::Debug for DynBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynBackend").field(&self.0.capabilities()).finish()
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Fallible<'a, T> = Answer<'a, Result<T, Error>>;

/// The object-safe counterpart of [`LockBackend`], method by method.
trait Erased: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> Fallible<'a, AcquireOutcome>;
    fn extend<'a>(&'a self, lock: &'a LockRef, ttl: Ttl) -> Fallible<'a, ExtendOutcome>;
    fn release<'a>(&'a self, lock: &'a LockRef) -> Fallible<'a, ReleaseOutcome>;
    fn lookup<'a>(&'a self, query: &'a LockQuery) -> Fallible<'a, Option<LockRecord>>;
    fn abandon<'a>(&'a self, lock_id: LockId, key: &'a LockKey) -> Fallible<'a, ()>;
    fn is_locked<'a>(&'a self, key: &'a LockKey) -> Fallible<'a, bool>;
    fn list<'a>(&'a self, request: &'a ListRequest) -> Fallible<'a, LockPage>;
    fn force_release<'a>(&'a self, key: &'a LockKey) -> Fallible<'a, Option<LockRecord>>;
    fn released<'a>(&'a self, key: &'a LockKey) -> Answer<'a, ()>;
    fn check(&self) -> Fallible<'_, Vec<Finding>>;
}

impl<B: LockBackend> Erased for B {
    fn capabilities(&self) -> Capabilities {
        LockBackend::capabilities(self)
    }

    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> Fallible<'a, AcquireOutcome> {
        Box::pin(LockBackend::acquire(self, request))
    }

    fn extend<'a>(&'a self, lock: &'a LockRef, ttl: Ttl) -> Fallible<'a, ExtendOutcome> {
        Box::pin(LockBackend::extend(self, lock, ttl))
    }

    fn release<'a>(&'a self, lock: &'a LockRef) -> Fallible<'a, ReleaseOutcome> {
        Box::pin(LockBackend::release(self, lock))
    }

    fn lookup<'a>(&'a self, query: &'a LockQuery) -> Fallible<'a, Option<LockRecord>> {
        Box::pin(LockBackend::lookup(self, query))
    }

    fn abandon<'a>(&'a self, lock_id: LockId, key: &'a LockKey) -> Fallible<'a, ()> {
        Box::pin(LockBackend::abandon(self, lock_id, key))
    }

    fn is_locked<'a>(&'a self, key: &'a LockKey) -> Fallible<'a, bool> {
        Box::pin(LockBackend::is_locked(self, key))
    }

    fn list<'a>(&'a self, request: &'a ListRequest) -> Fallible<'a, LockPage> {
        Box::pin(LockBackend::list(self, request))
    }

    fn force_release<'a>(&'a self, key: &'a LockKey) -> Fallible<'a, Option<LockRecord>> {
        Box::pin(LockBackend::force_release(self, key))
    }

    fn released<'a>(&'a self, key: &'a LockKey) -> Answer<'a, ()> {
        Box::pin(LockBackend::released(self, key))
    }

    fn check(&self) -> Fallible<'_, Vec<Finding>> {
        Box::pin(LockBackend::check(self))
    }
}

impl LockBackend for DynBackend {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        self.0.acquire(request).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        self.0.extend(lock, ttl).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        self.0.release(lock).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.0.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.0.abandon(lock_id, key).await
    }

    async fn is_locked(&self, key: &LockKey) -> Result<bool, Error> {
        self.0.is_locked(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        self.0.list(request).await
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        self.0.force_release(key).await
    }

    async fn released(&self, key: &LockKey) {
        self.0.released(key).await;
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.0.check().await
    }
}
