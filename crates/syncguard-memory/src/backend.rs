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

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, OnceLock, Weak},
        time::Duration,
    };

    use syncguard_core::{
        AcquireOutcome, AcquireRequest, BootInstant, Clock, ListRequest, LockBackend, LockId,
        LockKey, ManualClock, Ttl,
    };

    use super::{MemoryBackend, Slots};

    async fn is_granted(backend: &MemoryBackend) -> bool {
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(LockKey::new("k").unwrap(), id, Ttl::default());
        matches!(backend.acquire(&request).await.unwrap(), AcquireOutcome::Granted(_))
    }

    #[tokio::test]
    async fn a_key_is_granted_again_exactly_when_ttl_and_grace_are_over() {
        let clock = Arc::new(ManualClock::default());
        let backend = MemoryBackend::with_clock(clock.clone());
        let grace = backend.capabilities().grace;
        assert!(is_granted(&backend).await);
        clock.advance(Ttl::default().as_duration() + grace - Duration::from_millis(1));
        assert!(!is_granted(&backend).await);
        clock.advance(Duration::from_millis(1));
        assert!(is_granted(&backend).await);
    }

    #[tokio::test]
    async fn waiters_that_leave_are_forgotten() {
        let backend = MemoryBackend::new();
        let key = LockKey::new("k").unwrap();
        for _ in 0..10 {
            let woken = tokio::time::timeout(Duration::from_millis(1), backend.released(&key));
            assert!(woken.await.is_err(), "nothing is released");
        }
        assert!(backend.lock().waiters.is_empty());
    }

    /// Notes for each look at the clock whether the slots were locked.
    #[derive(Debug, Default)]
    struct Witness {
        slots: OnceLock<Weak<Mutex<Slots>>>,
        locked: Mutex<Vec<bool>>,
    }

    impl Clock for Witness {
        fn now(&self) -> BootInstant {
            if let Some(slots) = self.slots.get().and_then(Weak::upgrade) {
                self.locked.lock().unwrap().push(slots.try_lock().is_err());
            }
            BootInstant::from_boot(Duration::ZERO)
        }
    }

    /// A present that was read before the wait for the slots is past when they are locked.
    #[tokio::test]
    async fn each_operation_reads_the_present_while_the_slots_are_locked() {
        let witness = Arc::new(Witness::default());
        let backend = MemoryBackend::with_clock(witness.clone());
        witness.slots.set(Arc::downgrade(&backend.slots)).unwrap();
        let (id, key) = (LockId::mint().unwrap(), LockKey::new("k").unwrap());
        let read = |operation: &str| {
            let locked = std::mem::take(&mut *witness.locked.lock().unwrap());
            assert!(!locked.is_empty() && locked.iter().all(|locked| *locked), "{operation}");
        };
        assert!(is_granted(&backend).await);
        read("a grant");
        assert!(!is_granted(&backend).await);
        read("contention");
        let _ = backend.extend(&id.into(), Ttl::default()).await.unwrap();
        read("extend");
        let _ = backend.release(&id.into()).await.unwrap();
        read("release");
        backend.abandon(id, &key).await.unwrap();
        read("abandon");
        backend.lookup(&key.clone().into()).await.unwrap().unwrap();
        read("lookup by key");
        assert!(backend.lookup(&id.into()).await.unwrap().is_none());
        read("lookup by id");
        assert_eq!(backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 1);
        read("list");
        backend.force_release(&key).await.unwrap().unwrap();
        read("force_release");
    }
}
