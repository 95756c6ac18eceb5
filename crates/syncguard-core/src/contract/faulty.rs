use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;

use crate::{
    Error, ErrorKind, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef,
    },
};

/// A backend whose network fails as planned. Everything else is the inner backend.
///
/// A request that is in flight continues after its caller was dropped, as on a real network.
#[derive(Clone, Debug)]
pub struct Faulty<B> {
    inner: B,
    plan: Arc<Mutex<VecDeque<(Operation, Fault)>>>,
}

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is not sent, and the error reports so.
    NotSent,
    /// It is lost in transit. The caller receives no reply.
    RequestLost,
    /// It is carried out, and its reply is lost. The caller receives no reply.
    ReplyLost,
    /// It reaches the store when the gate opens.
    RequestDelayed(Gate),
    /// It is carried out immediately. Its reply arrives when the gate opens.
    ReplyDelayed(Gate),
    /// The store replies with a permanent error.
    Refused,
}

/// Delays requests until it is opened.
#[derive(Clone, Debug)]
pub struct Gate {
    reached: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Creates a closed gate.
    pub fn new() -> Self {
        Self { reached: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until a request has reached the gate. Each request completes one call.
    pub async fn reached(&self) {
        self.reached.acquire().await.expect("the semaphore is never closed").forget();
    }

    /// Opens the gate for good: waiting and later requests pass.
    pub fn open(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.reached.add_permits(1);
        // The permit is returned, so the gate stays open.
        drop(self.open.acquire().await.expect("the semaphore is never closed"));
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: LockBackend + Clone> Faulty<B> {
    /// Wraps `inner`; nothing fails until it is planned.
    pub fn new(inner: B) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Plans a fault for the next request of this kind that has no fault planned yet.
    pub fn plan(&self, operation: Operation, fault: Fault) {
        self.lock().push_back((operation, fault));
    }

    /// Discards all planned faults.
    pub fn heal(&self) {
        self.lock().clear();
    }

    /// Returns how many planned faults have not happened yet. A case uses it to prove that its
    /// fault happened.
    pub fn planned(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Operation, Fault)>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, operation: Operation) -> Option<Fault> {
        let mut plan = self.lock();
        let index = plan.iter().position(|(planned, _)| *planned == operation)?;
        plan.remove(index).map(|(_, fault)| fault)
    }

    async fn send<T, F>(
        &self,
        operation: Operation,
        request: impl FnOnce(B) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let lost = || Error::new(ErrorKind::NetworkTimeout).with_operation(operation);
        let request = request(self.inner.clone());
        match self.next(operation) {
            None => request.await,
            Some(Fault::NotSent) => Err(Error::new(ErrorKind::ServiceUnavailable)
                .with_operation(operation)
                .not_applied()),
            Some(Fault::Refused) => {
                Err(Error::new(ErrorKind::AuthFailed).with_operation(operation))
            }
            Some(Fault::RequestLost) => Err(lost()),
            Some(Fault::ReplyLost) => request.await.and(Err(lost())),
            Some(Fault::RequestDelayed(gate)) => {
                spawned(async move {
                    gate.pass().await;
                    request.await
                })
                .await
            }
            Some(Fault::ReplyDelayed(gate)) => {
                spawned(async move {
                    let reply = request.await;
                    gate.pass().await;
                    reply
                })
                .await
            }
        }
    }
}

/// Continues a request even if its caller is dropped.
async fn spawned<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> T {
    tokio::spawn(request).await.expect("a request does not panic")
}

impl<B: LockBackend + Clone> LockBackend for Faulty<B> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let request = request.clone();
        self.send(Operation::Acquire, |inner| async move { inner.acquire(&request).await }).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let lock = lock.clone();
        self.send(Operation::Extend, |inner| async move { inner.extend(&lock, ttl).await }).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let lock = lock.clone();
        self.send(Operation::Release, |inner| async move { inner.release(&lock).await }).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let key = key.clone();
        let request = |inner: B| async move { inner.abandon(lock_id, &key).await };
        self.send(Operation::Abandon, request).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let query = query.clone();
        self.send(Operation::Lookup, |inner| async move { inner.lookup(&query).await }).await
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        self.inner.list(request).await
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        let key = key.clone();
        let request = |inner: B| async move { inner.force_release(&key).await };
        self.send(Operation::ForceRelease, request).await
    }

    async fn released(&self, key: &LockKey) {
        self.inner.released(key).await;
    }

    fn is_subscribed(&self, key: &LockKey) -> bool {
        self.inner.is_subscribed(key)
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.inner.check().await
    }
}
