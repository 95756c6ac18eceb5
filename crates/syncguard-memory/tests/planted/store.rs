//! The memory backend with one flaw.

use std::{future::Future, marker::PhantomData, sync::Arc, time::Duration};

use syncguard_core::{
    BootInstant, Clock, Error, Fence, LockId, LockKey, ManualClock, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, ListRequest, LockBackend,
        LockPage, LockQuery, LockRecord, LockRef, RetirePage, RetireRequest,
    },
    contract::{Harness, Hook, Profile},
};
use syncguard_memory::MemoryBackend;
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) type Acquired = Result<AcquireOutcome, Error>;
pub(crate) type Extended = Result<ExtendOutcome, Error>;
pub(crate) type Released = Result<ReleaseOutcome, Error>;
pub(crate) type Found = Result<Option<LockRecord>, Error>;
pub(crate) type Listed = Result<LockPage, Error>;
pub(crate) type Retired = Result<RetirePage, Error>;

/// The flaw of a backend. Methods that are not overridden are those of the memory backend.
pub(crate) trait Flaw: Default + Send + Sync + 'static {
    /// How long each operation takes, during which no other operation runs. If zero, operations run
    /// concurrently.
    const OPERATION_TIME: Duration = Duration::ZERO;

    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities()
    }

    fn acquire(
        &self,
        call: &Call,
        request: &AcquireRequest,
    ) -> impl Future<Output = Acquired> + Send {
        call.memory.acquire(request)
    }

    fn extend(
        &self,
        call: &Call,
        lock: &LockRef,
        ttl: Ttl,
    ) -> impl Future<Output = Extended> + Send {
        call.memory.extend(lock, ttl)
    }

    fn release(&self, call: &Call, lock: &LockRef) -> impl Future<Output = Released> + Send {
        call.memory.release(lock)
    }

    fn lookup(&self, call: &Call, query: &LockQuery) -> impl Future<Output = Found> + Send {
        call.memory.lookup(query)
    }

    fn abandon(
        &self,
        call: &Call,
        lock_id: LockId,
        key: &LockKey,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        call.memory.abandon(lock_id, key)
    }

    fn list(&self, call: &Call, request: &ListRequest) -> impl Future<Output = Listed> + Send {
        call.memory.list(request)
    }

    fn force_release(&self, call: &Call, key: &LockKey) -> impl Future<Output = Found> + Send {
        call.memory.force_release(key)
    }

    fn retire_counters(
        &self,
        call: &Call,
        request: &RetireRequest,
    ) -> impl Future<Output = Retired> + Send {
        call.memory.retire_counters(request)
    }

    fn released(&self, memory: &MemoryBackend, key: &LockKey) -> impl Future<Output = ()> + Send {
        memory.released(key)
    }
}

/// One call of an operation.
pub(crate) struct Call {
    pub(crate) memory: MemoryBackend,
    pub(crate) clock: Arc<ManualClock>,
    /// When the operation was sent, before its wait for the store.
    pub(crate) sent: BootInstant,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// Behaves as a backend with the flaw `F` but without the flaw: its operations take as long.
pub(crate) struct Flawless<F>(PhantomData<fn() -> F>);

impl<F> Default for Flawless<F> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<F: Flaw> Flaw for Flawless<F> {
    const OPERATION_TIME: Duration = F::OPERATION_TIME;
}

/// A backend with a flaw.
pub(crate) struct Planted<F> {
    flaw: Arc<F>,
    memory: MemoryBackend,
    clock: Arc<ManualClock>,
    turns: Arc<Mutex<()>>,
}

impl<F> Clone for Planted<F> {
    fn clone(&self) -> Self {
        let Self { flaw, memory, clock, turns } = self;
        Self {
            flaw: flaw.clone(),
            memory: memory.clone(),
            clock: clock.clone(),
            turns: turns.clone(),
        }
    }
}

impl<F: Flaw> Planted<F> {
    async fn call(&self) -> Call {
        let sent = self.clock.now();
        let turn = if F::OPERATION_TIME.is_zero() {
            None
        } else {
            let turn = self.turns.clone().lock_owned().await;
            // Concurrent calls queue behind this one.
            tokio::task::yield_now().await;
            self.clock.advance(F::OPERATION_TIME);
            Some(turn)
        };
        Call { memory: self.memory.clone(), clock: self.clock.clone(), sent, _turn: turn }
    }
}

impl<F: Flaw> LockBackend for Planted<F> {
    fn capabilities(&self) -> Capabilities {
        self.flaw.capabilities(&self.memory)
    }

    async fn acquire(&self, request: &AcquireRequest) -> Acquired {
        self.flaw.acquire(&self.call().await, request).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Extended {
        self.flaw.extend(&self.call().await, lock, ttl).await
    }

    async fn release(&self, lock: &LockRef) -> Released {
        self.flaw.release(&self.call().await, lock).await
    }

    async fn lookup(&self, query: &LockQuery) -> Found {
        self.flaw.lookup(&self.call().await, query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.flaw.abandon(&self.call().await, lock_id, key).await
    }

    async fn list(&self, request: &ListRequest) -> Listed {
        self.flaw.list(&self.call().await, request).await
    }

    async fn force_release(&self, key: &LockKey) -> Found {
        self.flaw.force_release(&self.call().await, key).await
    }

    async fn retire_counters(&self, request: &RetireRequest) -> Retired {
        self.flaw.retire_counters(&self.call().await, request).await
    }

    async fn released(&self, key: &LockKey) {
        self.flaw.released(&self.memory, key).await;
    }
}

/// The store's clock advances only when the case advances it, and by the time of operations.
impl<F: Flaw> Harness for Planted<F> {
    type Backend = Self;

    fn profile() -> Profile {
        Profile::in_process("planted")
    }

    async fn start() -> Self {
        let clock = Arc::new(ManualClock::default());
        let memory = MemoryBackend::with_clock(clock.clone());
        Self { flaw: Arc::default(), memory, clock, turns: Arc::default() }
    }

    async fn client(&self) -> Self {
        self.clone()
    }

    async fn seeding_client(&self) -> Option<Self> {
        let memory = self.memory.clone().seed_new_counters();
        Some(Self { memory, ..self.clone() })
    }

    async fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
        tokio::time::sleep(duration).await;
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.memory.seed_fence(key, fence);
        Hook::Done
    }
}
