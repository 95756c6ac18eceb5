use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef,
    },
};

/// A backend chosen at run time. Cheap to clone; the clones share one backend.
///
/// It adds the operation, the key and the lock id to each error, and marks the errors of reads as
/// [not applied](Error::not_applied). It costs one allocation per operation.
///
/// # Examples
///
/// ```
/// use syncguard_core::{DynBackend, LockManager, NullBackend};
///
/// fn open(name: &str) -> Option<DynBackend> {
///     match name {
///         "null" => Some(DynBackend::new(NullBackend::default())),
///         _ => None,
///     }
/// }
///
/// let locks = LockManager::new(open("null").unwrap());
/// assert!(!locks.capabilities().exclusive);
/// ```
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

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type BoxResultFuture<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// The object-safe counterpart of [`LockBackend`], method by method.
trait Erased: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BoxResultFuture<'a, AcquireOutcome>;
    fn extend<'a>(&'a self, lock: &'a LockRef, ttl: Ttl) -> BoxResultFuture<'a, ExtendOutcome>;
    fn release<'a>(&'a self, lock: &'a LockRef) -> BoxResultFuture<'a, ReleaseOutcome>;
    fn lookup<'a>(&'a self, query: &'a LockQuery) -> BoxResultFuture<'a, Option<LockRecord>>;
    fn abandon<'a>(&'a self, lock_id: LockId, key: &'a LockKey) -> BoxResultFuture<'a, ()>;
    fn is_locked<'a>(&'a self, key: &'a LockKey) -> BoxResultFuture<'a, bool>;
    fn list<'a>(&'a self, request: &'a ListRequest) -> BoxResultFuture<'a, LockPage>;
    fn force_release<'a>(&'a self, key: &'a LockKey) -> BoxResultFuture<'a, Option<LockRecord>>;
    fn released<'a>(&'a self, key: &'a LockKey) -> BoxFuture<'a, ()>;
    fn turn<'a>(&'a self, key: &'a LockKey) -> BoxFuture<'a, ()>;
    fn is_subscribed(&self, key: &LockKey) -> bool;
    fn check(&self) -> BoxResultFuture<'_, Vec<Finding>>;
}

/// What is added to the error of an operation.
struct Context<'a> {
    operation: Operation,
    key: Option<&'a LockKey>,
    lock_id: Option<LockId>,
}

impl<'a> Context<'a> {
    fn new(operation: Operation) -> Self {
        Self { operation, key: None, lock_id: None }
    }

    fn with_key(self, key: impl Into<Option<&'a LockKey>>) -> Self {
        Self { key: key.into(), ..self }
    }

    fn with_lock_id(self, lock_id: LockId) -> Self {
        Self { lock_id: Some(lock_id), ..self }
    }

    /// Boxes the future that `call` makes, so that its error has this context.
    ///
    /// The future is made inside the box, at the first poll. If it were passed as an argument, it
    /// would be copied several times, and the futures of some backends take kilobytes.
    fn attach<T, F: Future<Output = Result<T, Error>> + Send>(
        self,
        call: impl FnOnce() -> F + Send + 'a,
    ) -> BoxResultFuture<'a, T> {
        let Self { operation, key, lock_id } = self;
        Box::pin(async move {
            call().await.map_err(|error| error.with_context(operation, key, lock_id))
        })
    }
}

impl<B: LockBackend> Erased for B {
    fn capabilities(&self) -> Capabilities {
        LockBackend::capabilities(self)
    }

    fn acquire<'a>(&'a self, request: &'a AcquireRequest) -> BoxResultFuture<'a, AcquireOutcome> {
        let context =
            Context::new(Operation::Acquire).with_key(&request.key).with_lock_id(request.lock_id);
        context.attach(move || LockBackend::acquire(self, request))
    }

    fn extend<'a>(&'a self, lock: &'a LockRef, ttl: Ttl) -> BoxResultFuture<'a, ExtendOutcome> {
        let context =
            Context::new(Operation::Extend).with_key(lock.key.as_ref()).with_lock_id(lock.lock_id);
        context.attach(move || LockBackend::extend(self, lock, ttl))
    }

    fn release<'a>(&'a self, lock: &'a LockRef) -> BoxResultFuture<'a, ReleaseOutcome> {
        let context =
            Context::new(Operation::Release).with_key(lock.key.as_ref()).with_lock_id(lock.lock_id);
        context.attach(move || LockBackend::release(self, lock))
    }

    fn lookup<'a>(&'a self, query: &'a LockQuery) -> BoxResultFuture<'a, Option<LockRecord>> {
        let context = Context::new(Operation::Lookup);
        let context = match query {
            LockQuery::ByKey(key) => context.with_key(key),
            LockQuery::ById(lock_id) => context.with_lock_id(*lock_id),
        };
        context.attach(move || LockBackend::lookup(self, query))
    }

    fn abandon<'a>(&'a self, lock_id: LockId, key: &'a LockKey) -> BoxResultFuture<'a, ()> {
        let context = Context::new(Operation::Abandon).with_key(key).with_lock_id(lock_id);
        context.attach(move || LockBackend::abandon(self, lock_id, key))
    }

    fn is_locked<'a>(&'a self, key: &'a LockKey) -> BoxResultFuture<'a, bool> {
        let context = Context::new(Operation::IsLocked).with_key(key);
        context.attach(move || LockBackend::is_locked(self, key))
    }

    fn list<'a>(&'a self, request: &'a ListRequest) -> BoxResultFuture<'a, LockPage> {
        Context::new(Operation::List).attach(move || LockBackend::list(self, request))
    }

    fn force_release<'a>(&'a self, key: &'a LockKey) -> BoxResultFuture<'a, Option<LockRecord>> {
        let context = Context::new(Operation::ForceRelease).with_key(key);
        context.attach(move || LockBackend::force_release(self, key))
    }

    fn released<'a>(&'a self, key: &'a LockKey) -> BoxFuture<'a, ()> {
        Box::pin(LockBackend::released(self, key))
    }

    fn turn<'a>(&'a self, key: &'a LockKey) -> BoxFuture<'a, ()> {
        Box::pin(LockBackend::turn(self, key))
    }

    fn is_subscribed(&self, key: &LockKey) -> bool {
        LockBackend::is_subscribed(self, key)
    }

    fn check(&self) -> BoxResultFuture<'_, Vec<Finding>> {
        Context::new(Operation::Check).attach(move || LockBackend::check(self))
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

    async fn turn(&self, key: &LockKey) {
        self.0.turn(key).await;
    }

    fn is_subscribed(&self, key: &LockKey) -> bool {
        self.0.is_subscribed(key)
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.0.check().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::DynBackend;
    use crate::{
        Error, ErrorKind, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
        backend::{
            AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
            LockBackend, LockPage, LockQuery, LockRecord, LockRef,
        },
    };

    /// Fails each operation with an error without context.
    struct Failing;

    fn failed<T>() -> Result<T, Error> {
        Err(Error::new(ErrorKind::ServiceUnavailable))
    }

    impl LockBackend for Failing {
        fn capabilities(&self) -> Capabilities {
            Capabilities::new()
        }
        async fn acquire(&self, _: &AcquireRequest) -> Result<AcquireOutcome, Error> {
            failed()
        }
        async fn extend(&self, _: &LockRef, _: Ttl) -> Result<ExtendOutcome, Error> {
            failed()
        }
        async fn release(&self, _: &LockRef) -> Result<ReleaseOutcome, Error> {
            failed()
        }
        async fn lookup(&self, _: &LockQuery) -> Result<Option<LockRecord>, Error> {
            failed()
        }
        async fn abandon(&self, _: LockId, _: &LockKey) -> Result<(), Error> {
            failed()
        }
        async fn list(&self, _: &ListRequest) -> Result<LockPage, Error> {
            failed()
        }
        async fn force_release(&self, _: &LockKey) -> Result<Option<LockRecord>, Error> {
            failed()
        }
        async fn check(&self) -> Result<Vec<Finding>, Error> {
            failed()
        }
    }

    #[tokio::test]
    async fn each_error_has_its_operation_and_its_lock_and_those_of_reads_are_not_applied() {
        let backend = DynBackend::new(Failing);
        let (key, id) = (LockKey::new("k").unwrap(), LockId::mint().unwrap());
        let lock = LockRef::new(id, key.clone());
        let request = AcquireRequest::new(key.clone(), id, Ttl::default());
        let (by_key, by_id) = (key.clone().into(), id.into());
        for (error, operation, has_key, has_id, is_write) in [
            (backend.acquire(&request).await.map(drop), Operation::Acquire, true, true, true),
            (
                backend.extend(&lock, Ttl::default()).await.map(drop),
                Operation::Extend,
                true,
                true,
                true,
            ),
            (backend.release(&lock).await.map(drop), Operation::Release, true, true, true),
            (backend.release(&id.into()).await.map(drop), Operation::Release, false, true, true),
            (backend.abandon(id, &key).await, Operation::Abandon, true, true, true),
            (backend.lookup(&by_key).await.map(drop), Operation::Lookup, true, false, false),
            (backend.lookup(&by_id).await.map(drop), Operation::Lookup, false, true, false),
            (backend.is_locked(&key).await.map(drop), Operation::IsLocked, true, false, false),
            (
                backend.list(&ListRequest::new("")).await.map(drop),
                Operation::List,
                false,
                false,
                false,
            ),
            (
                backend.force_release(&key).await.map(drop),
                Operation::ForceRelease,
                true,
                false,
                true,
            ),
            (backend.check().await.map(drop), Operation::Check, false, false, false),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.operation(), Some(operation), "{error}");
            assert_eq!(error.key(), has_key.then(|| key.display_hash()), "{error}");
            assert_eq!(error.lock_id(), has_id.then_some(id), "{error}");
            assert_eq!(error.may_have_applied(), is_write, "{error}");
        }
    }

    /// Its futures take kilobytes.
    struct Large;

    const LARGE: usize = 8_192;

    async fn large<T>() -> Result<T, Error> {
        let kept = [0_u8; LARGE];
        yield_now().await;
        let _ = std::hint::black_box(kept);
        failed()
    }

    impl LockBackend for Large {
        fn capabilities(&self) -> Capabilities {
            Capabilities::new()
        }
        async fn acquire(&self, _: &AcquireRequest) -> Result<AcquireOutcome, Error> {
            large().await
        }
        async fn extend(&self, _: &LockRef, _: Ttl) -> Result<ExtendOutcome, Error> {
            large().await
        }
        async fn release(&self, _: &LockRef) -> Result<ReleaseOutcome, Error> {
            large().await
        }
        async fn lookup(&self, _: &LockQuery) -> Result<Option<LockRecord>, Error> {
            large().await
        }
        async fn abandon(&self, _: LockId, _: &LockKey) -> Result<(), Error> {
            large().await
        }
    }

    #[test]
    fn the_context_of_errors_does_not_double_the_future_of_an_operation() {
        let backend = DynBackend::new(Large);
        let (key, id) = (LockKey::new("k").unwrap(), LockId::mint().unwrap());
        let (lock, request) = (id.into(), AcquireRequest::new(key.clone(), id, Ttl::default()));
        for size in [
            size_of_val(&*backend.0.acquire(&request)),
            size_of_val(&*backend.0.extend(&lock, Ttl::default())),
            size_of_val(&*backend.0.release(&lock)),
            size_of_val(&*backend.0.abandon(id, &key)),
        ] {
            assert!((LARGE..LARGE + 512).contains(&size), "{size}");
        }
    }
}
