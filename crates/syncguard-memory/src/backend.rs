//! The backend. Each operation is in the file of its name.

use std::sync::Arc;

use syncguard_core::{
    BootClock, Clock, Error, Fence, LockId, LockKey, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Fencing, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef, WakeUp,
    },
};

use crate::{acquire, extend, lookup, operate, release, store::Store, wait};

/// Keeps locks in this process. It is cheap to clone, and the clones share the locks.
#[derive(Clone, Debug)]
pub struct MemoryBackend(Arc<Store>);

impl MemoryBackend {
    /// Creates a backend without locks.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(BootClock))
    }

    /// Creates a backend whose locks expire by `clock`, for tests.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Store::new(clock)))
    }

    /// Continues the fences of `key` after `fence`, unless they are already higher. Use it to move
    /// from another store whose fences the resource has seen.
    pub fn seed_fence(&self, key: &LockKey, fence: Fence) {
        self.0.lock().seed(key, fence);
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
            .with_shared()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        acquire::acquire(&self.0, request)
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        Ok(extend::extend(&self.0, lock.lock_id, ttl))
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        Ok(release::release(&self.0, lock.lock_id))
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        Ok(lookup::lookup(&self.0, query))
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        release::abandon(&self.0, lock_id, key);
        Ok(())
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        Ok(operate::list(&self.0, request))
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        Ok(operate::force_release(&self.0, key))
    }

    async fn released(&self, key: &LockKey) {
        wait::released(&self.0, key).await;
    }

    fn is_subscribed(&self, _key: &LockKey) -> bool {
        // From the first poll on.
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, OnceLock, Weak},
        time::Duration,
    };

    use syncguard_core::{
        BootInstant, Clock, LockId, LockKey, ManualClock, Ttl,
        backend::{AcquireOutcome, AcquireRequest, ListRequest, LockBackend, Mode},
    };

    use super::{MemoryBackend, Store};

    async fn is_granted(backend: &MemoryBackend) -> bool {
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(LockKey::new("k").unwrap(), id, Ttl::default());
        matches!(backend.acquire(&request).await.unwrap(), AcquireOutcome::Granted(_))
    }

    #[tokio::test]
    async fn a_key_is_granted_again_exactly_after_ttl_and_grace() {
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
    async fn dropped_waiters_are_removed() {
        let backend = MemoryBackend::new();
        let key = LockKey::new("k").unwrap();
        for _ in 0..10 {
            let woken = tokio::time::timeout(Duration::from_millis(1), backend.released(&key));
            assert!(woken.await.is_err(), "nothing is released");
        }
        assert!(backend.0.lock().waiters.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_others_behind_notifies_no_waiter() {
        let backend = MemoryBackend::new();
        let key = LockKey::new("k").unwrap();
        let ids = [(); 2].map(|()| LockId::mint().unwrap());
        for id in ids {
            let request = AcquireRequest::new(key.clone(), id, Ttl::default());
            let _ = backend.acquire(&request.with_mode(Mode::SHARED)).await.unwrap();
        }
        let mut woken = std::pin::pin!(backend.released(&key));
        for (id, is_last) in ids.into_iter().zip([false, true]) {
            let wait = Duration::from_millis(1);
            assert!(tokio::time::timeout(wait, &mut woken).await.is_err(), "none was released");
            let _ = backend.release(&id.into()).await.unwrap();
            if is_last {
                woken.as_mut().await;
            }
        }
    }

    /// Records, for each read of the clock, whether the slots were locked.
    #[derive(Debug, Default)]
    struct RecordingClock {
        store: OnceLock<Weak<Store>>,
        locked: Mutex<Vec<bool>>,
    }

    impl Clock for RecordingClock {
        fn now(&self) -> BootInstant {
            if let Some(store) = self.store.get().and_then(Weak::upgrade) {
                self.locked.lock().unwrap().push(store.is_locked());
            }
            BootInstant::from_boot(Duration::ZERO)
        }
    }

    /// A time that is read before the wait for the slots is outdated when they are locked.
    #[tokio::test]
    async fn each_operation_reads_the_clock_while_the_slots_are_locked() {
        let recording = Arc::new(RecordingClock::default());
        let backend = MemoryBackend::with_clock(recording.clone());
        recording.store.set(Arc::downgrade(&backend.0)).unwrap();
        let (id, key) = (LockId::mint().unwrap(), LockKey::new("k").unwrap());
        let assert_locked = |operation: &str| {
            let locked = std::mem::take(&mut *recording.locked.lock().unwrap());
            assert!(!locked.is_empty() && locked.iter().all(|locked| *locked), "{operation}");
        };
        assert!(is_granted(&backend).await);
        assert_locked("a grant");
        assert!(!is_granted(&backend).await);
        assert_locked("contention");
        let _ = backend.extend(&id.into(), Ttl::default()).await.unwrap();
        assert_locked("extend");
        let _ = backend.release(&id.into()).await.unwrap();
        assert_locked("release");
        backend.abandon(id, &key).await.unwrap();
        assert_locked("abandon");
        backend.lookup(&key.clone().into()).await.unwrap().unwrap();
        assert_locked("lookup by key");
        assert!(backend.lookup(&id.into()).await.unwrap().is_none());
        assert_locked("lookup by id");
        assert_eq!(backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 1);
        assert_locked("list");
        backend.force_release(&key).await.unwrap().unwrap();
        assert_locked("force_release");
    }
}
