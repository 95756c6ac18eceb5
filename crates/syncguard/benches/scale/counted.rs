//! A backend that counts the requests of each second.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use syncguard::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, LockBackend, LockQuery,
        LockRecord, LockRef,
    },
};

#[derive(Clone)]
pub(crate) struct Counted<B> {
    backend: B,
    start: Instant,
    seconds: Arc<Mutex<Vec<[u32; 2]>>>,
}

impl<B> Counted<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend, start: Instant::now(), seconds: Arc::default() }
    }

    /// Returns the number of acquires or extends in each second so far, the last one excepted.
    pub(crate) fn by_second(&self, operation: Operation) -> Vec<u32> {
        let seconds = self.seconds.lock().unwrap();
        let complete = &seconds[..seconds.len().saturating_sub(1)];
        complete.iter().map(|counts| counts[index(operation)]).collect()
    }

    fn count(&self, operation: Operation) {
        let second = usize::try_from(self.start.elapsed().as_secs()).unwrap();
        let mut seconds = self.seconds.lock().unwrap();
        let len = seconds.len().max(second + 1);
        seconds.resize(len, [0; 2]);
        seconds[second][index(operation)] += 1;
    }
}

fn index(operation: Operation) -> usize {
    usize::from(operation == Operation::Extend)
}

impl<B: LockBackend> LockBackend for Counted<B> {
    fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        self.count(Operation::Acquire);
        self.backend.acquire(request).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        self.count(Operation::Extend);
        self.backend.extend(lock, ttl).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        self.backend.release(lock).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.backend.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.backend.abandon(lock_id, key).await
    }

    async fn released(&self, key: &LockKey) {
        self.backend.released(key).await;
    }

    async fn turn(&self, key: &LockKey) {
        self.backend.turn(key).await;
    }

    fn is_subscribed(&self, key: &LockKey) -> bool {
        self.backend.is_subscribed(key)
    }
}
