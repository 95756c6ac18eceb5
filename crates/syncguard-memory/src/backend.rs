use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, BootClock, BootInstant, Capabilities, Clock, Error,
    ExtendOutcome, Fence, Fencing, ListRequest, LockBackend, LockId, LockKey, LockPage, LockQuery,
    LockRecord, LockRef, ReleaseOutcome, Timestamp, Ttl, WakeUp,
};

use crate::slots::{Slot, Slots};

/// Keeps locks in this process. Cheap to clone; the clones share the locks.
#[derive(Clone, Debug)]
pub struct MemoryBackend {
    slots: Arc<Mutex<Slots>>,
    clock: Arc<dyn Clock>,
    /// Where the clock and the calendar met when the backend was made.
    start: BootInstant,
    epoch: Duration,
}

impl MemoryBackend {
    /// Makes a backend without locks.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(BootClock))
    }

    /// Makes a backend whose locks expire by `clock`. For tests.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { slots: Arc::default(), start: clock.now(), clock, epoch }
    }

    /// Lets the fences of `key` go on after `fence`, unless they are beyond it already. For moving
    /// from another store, whose fences the resource has seen.
    pub fn seed_fence(&self, key: &LockKey, fence: Fence) {
        let mut slots = self.lock();
        let slot = slots.by_key.entry(key.clone()).or_insert(Slot { fence, held: None });
        slot.fence = slot.fence.max(fence);
    }

    pub(crate) fn now(&self) -> Timestamp {
        let now = self.epoch + self.clock.now().since(self.start);
        Timestamp::from_unix_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Slots> {
        // Nothing panics while the slots are locked, so they are whole even if poisoned.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl LockBackend for MemoryBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with_fencing(Fencing::Process)
            .with_wake_up(WakeUp::Notified)
            .with_list()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        self.acquire_now(request)
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        Ok(self.extend_now(lock.lock_id, ttl))
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        Ok(self.release_now(lock.lock_id))
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        Ok(self.lookup_now(query))
    }

    async fn abandon(&self, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        self.abandon_now(lock_id);
        Ok(())
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        Ok(self.list_now(request))
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        Ok(self.force_release_now(key))
    }

    async fn released(&self, key: &LockKey) {
        self.wait_for_release(key).await;
    }
}
