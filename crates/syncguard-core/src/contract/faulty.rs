use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;

use crate::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ErrorKind, ExtendOutcome, Finding,
    ListRequest, LockBackend, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef, Operation,
    ReleaseOutcome, Ttl,
};

/// A backend whose network fails as planned. Everything else is the inner backend.
///
/// A request that is in flight continues when its caller goes away, as it does on a real network.
#[derive(Clone, Debug)]
pub struct Faulty<B> {
    inner: B,
    plan: Arc<Mutex<VecDeque<(Operation, Fault)>>>,
}

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It has certainly not been sent.
    NotSent,
    /// It is lost in transit; the caller sees no answer.
    RequestLost,
    /// It is carried out; the caller sees no answer.
    ReplyLost,
    /// It reaches the store when the gate opens.
    RequestHeld(Gate),
    /// It is carried out immediately; its answer arrives when the gate opens.
    ReplyHeld(Gate),
    /// The store answers with a permanent error.
    Refused,
}

/// Holds a request until it is opened.
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

    /// Waits until a request is at the gate. Once for each request.
    pub async fn reached(&self) {
        self.reached.acquire().await.expect("the gate is never torn down").forget();
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.reached.add_permits(1);
        // The permit is returned, so the gate stays open.
        drop(self.open.acquire().await.expect("the gate is never torn down"));
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

    /// Plans the fate of the next request of this kind that has no plan yet.
    pub fn plan(&self, operation: Operation, fault: Fault) {
        self.lock().push_back((operation, fault));
    }

    /// Discards all plans.
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

    async fn carry<T, F>(
        &self,
        operation: Operation,
        request: impl FnOnce(B) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let lost = || Error::new(ErrorKind::NetworkTimeout, operation);
        let request = request(self.inner.clone());
        match self.next(operation) {
            None => request.await,
            Some(Fault::NotSent) => {
                Err(Error::new(ErrorKind::ServiceUnavailable, operation).not_applied())
            }
            Some(Fault::Refused) => Err(Error::new(ErrorKind::AuthFailed, operation)),
            Some(Fault::RequestLost) => Err(lost()),
            Some(Fault::ReplyLost) => request.await.and(Err(lost())),
            Some(Fault::RequestHeld(gate)) => {
                on_its_way(async move {
                    gate.pass().await;
                    request.await
                })
                .await
            }
            Some(Fault::ReplyHeld(gate)) => {
                on_its_way(async move {
                    let answer = request.await;
                    gate.pass().await;
                    answer
                })
                .await
            }
        }
    }
}

async fn on_its_way<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> T {
    tokio::spawn(request).await.expect("a request does not panic")
}

impl<B: LockBackend + Clone> LockBackend for Faulty<B> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let request = request.clone();
        self.carry(Operation::Acquire, |inner| async move { inner.acquire(&request).await }).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let lock = lock.clone();
        self.carry(Operation::Extend, |inner| async move { inner.extend(&lock, ttl).await }).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let lock = lock.clone();
        self.carry(Operation::Release, |inner| async move { inner.release(&lock).await }).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let key = key.clone();
        let request = |inner: B| async move { inner.abandon(lock_id, &key).await };
        self.carry(Operation::Abandon, request).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.inner.lookup(query).await
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        self.inner.list(request).await
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        let key = key.clone();
        let request = |inner: B| async move { inner.force_release(&key).await };
        self.carry(Operation::ForceRelease, request).await
    }

    async fn released(&self, key: &LockKey) {
        self.inner.released(key).await;
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.inner.check().await
    }
}
