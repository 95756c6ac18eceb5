//! The memory backend with one flaw.

use std::{future::Future, marker::PhantomData, sync::Arc, time::Duration};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, BootInstant, Capabilities, Clock, Error, ExtendOutcome, Fence,
    ListRequest, LockBackend, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef,
    ManualClock, ReleaseOutcome, Ttl,
    contract::{Harness, Hook, Profile},
};
use syncguard_memory::MemoryBackend;
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) type Acquired = Result<AcquireOutcome, Error>;
pub(crate) type Extended = Result<ExtendOutcome, Error>;
pub(crate) type Released = Result<ReleaseOutcome, Error>;
pub(crate) type Found = Result<Option<LockRecord>, Error>;
pub(crate) type Listed = Result<LockPage, Error>;

/// What is wrong with a backend. What is not overridden is the memory backend's.
pub(crate) trait Flaw: Default + Send + Sync + 'static {
    /// How long each operation keeps the store to itself. With zero, operations do not queue.
    const STEP: Duration = Duration::ZERO;

    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities()
    }

    fn acquire(
        &self,
        step: &Step,
        request: &AcquireRequest,
    ) -> impl Future<Output = Acquired> + Send {
        step.memory.acquire(request)
    }

    fn extend(
        &self,
        step: &Step,
        lock: &LockRef,
        ttl: Ttl,
    ) -> impl Future<Output = Extended> + Send {
        step.memory.extend(lock, ttl)
    }

    fn release(&self, step: &Step, lock: &LockRef) -> impl Future<Output = Released> + Send {
        step.memory.release(lock)
    }

    fn lookup(&self, step: &Step, query: &LockQuery) -> impl Future<Output = Found> + Send {
        step.memory.lookup(query)
    }

    fn abandon(
        &self,
        step: &Step,
        lock_id: LockId,
        key: &LockKey,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        step.memory.abandon(lock_id, key)
    }

    fn list(&self, step: &Step, request: &ListRequest) -> impl Future<Output = Listed> + Send {
        step.memory.list(request)
    }

    fn force_release(&self, step: &Step, key: &LockKey) -> impl Future<Output = Found> + Send {
        step.memory.force_release(key)
    }

    fn released(&self, memory: &MemoryBackend, key: &LockKey) -> impl Future<Output = ()> + Send {
        memory.released(key)
    }
}

/// One operation of the store.
pub(crate) struct Step {
    pub(crate) memory: MemoryBackend,
    pub(crate) clock: Arc<ManualClock>,
    /// When the operation was sent: before it waited for the store.
    pub(crate) sent: BootInstant,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// The store of a flaw `F` without the flaw.
pub(crate) struct Sound<F>(PhantomData<fn() -> F>);

impl<F> Default for Sound<F> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<F: Flaw> Flaw for Sound<F> {
    const STEP: Duration = F::STEP;
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
    async fn step(&self) -> Step {
        let sent = self.clock.now();
        let turn = if F::STEP.is_zero() {
            None
        } else {
            let turn = self.turns.clone().lock_owned().await;
            // Those who ask at the same time line up behind it.
            tokio::task::yield_now().await;
            self.clock.advance(F::STEP);
            Some(turn)
        };
        Step { memory: self.memory.clone(), clock: self.clock.clone(), sent, _turn: turn }
    }
}

impl<F: Flaw> LockBackend for Planted<F> {
    fn capabilities(&self) -> Capabilities {
        self.flaw.capabilities(&self.memory)
    }

    async fn acquire(&self, request: &AcquireRequest) -> Acquired {
        self.flaw.acquire(&self.step().await, request).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Extended {
        self.flaw.extend(&self.step().await, lock, ttl).await
    }

    async fn release(&self, lock: &LockRef) -> Released {
        self.flaw.release(&self.step().await, lock).await
    }

    async fn lookup(&self, query: &LockQuery) -> Found {
        self.flaw.lookup(&self.step().await, query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.flaw.abandon(&self.step().await, lock_id, key).await
    }

    async fn list(&self, request: &ListRequest) -> Listed {
        self.flaw.list(&self.step().await, request).await
    }

    async fn force_release(&self, key: &LockKey) -> Found {
        self.flaw.force_release(&self.step().await, key).await
    }

    async fn released(&self, key: &LockKey) {
        self.flaw.released(&self.memory, key).await;
    }
}

/// Time passes for the store when the case lets it pass, and at no other time.
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

    async fn pass(&self, duration: Duration) {
        self.clock.advance(duration);
        tokio::time::sleep(duration).await;
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.memory.seed_fence(key, fence);
        Hook::Done
    }
}
