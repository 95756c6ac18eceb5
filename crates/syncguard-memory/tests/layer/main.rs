//! The lock layer over the memory backend, in virtual time: tokio's clock stands still until all
//! tasks wait, and then jumps to the next timer.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod chaos;
mod claims;
mod cleaning;
mod extremes;
mod fairness;
mod fencing;
mod late_requests;
mod leading;
mod limits;
mod loss;
mod notified;
mod observer;
mod queueing;
mod renewing;
mod runtimes;
mod set_waits;
mod sets;
mod sharing;
mod silent;
mod spans;
mod stalling;
mod starving;
mod store;
mod suspending;
mod time;
mod unpolled;
mod waiting;
mod waking;
mod watching;

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use syncguard_core::{
    Error, ErrorKind, LockId, LockKey, LockManager, LockManagerBuilder, Operation, ReleaseOutcome,
    ShutdownOutcome, Ttl,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, LockRef},
    contract::{Fault, Faulty, Gate},
};
use syncguard_memory::MemoryBackend;

use self::{store::RecordingStore, time::VirtualClock};

/// Longer than any test lasts, in virtual time.
const LONG: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A store, the clock of the store and of its clients, and another client of the store.
struct World {
    clock: VirtualClock,
    others: MemoryBackend,
    faults: Faulty<MemoryBackend>,
    store: RecordingStore<Faulty<MemoryBackend>>,
}

impl World {
    /// Creates a world whose clock starts now.
    fn new() -> Self {
        let clock = VirtualClock::new();
        let others = MemoryBackend::with_clock(clock.shared());
        let faults = Faulty::new(others.clone());
        Self { clock, others, store: RecordingStore::new(faults.clone()), faults }
    }

    fn builder(&self) -> LockManagerBuilder {
        LockManager::builder(self.store.clone()).clock(self.clock.shared())
    }

    fn locks(&self) -> LockManager {
        self.builder().build()
    }

    /// Acquires the lock as another process.
    async fn hold_elsewhere(&self, text: &str, ttl: Duration) -> LockRef {
        let request =
            AcquireRequest::new(key(text), LockId::mint().unwrap(), Ttl::new(ttl).unwrap());
        let outcome = self.others.acquire(&request).await.unwrap();
        assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
        LockRef::new(request.lock_id, request.key)
    }

    async fn extend_elsewhere(&self, lock: &LockRef, ttl: Duration) {
        let outcome = self.others.extend(lock, Ttl::new(ttl).unwrap()).await.unwrap();
        assert!(matches!(outcome, ExtendOutcome::Extended { .. }), "{outcome:?}");
    }

    async fn release_elsewhere(&self, lock: &LockRef) {
        assert_eq!(self.others.release(lock).await.unwrap(), ReleaseOutcome::Released);
    }

    /// Releases a lock, which its holder does not notice.
    async fn release_by_force(&self, text: &str) {
        let released = self.others.force_release(&key(text)).await.unwrap();
        assert!(released.is_some(), "no one holds it");
    }

    /// Returns when requests of a kind were sent, counted from the start.
    fn sent(&self, operation: Operation) -> Vec<Duration> {
        self.store.sent(operation)
    }

    /// Plans the same fault for the next requests of a kind.
    fn plan(&self, operation: Operation, fault: &Fault, times: usize) {
        (0..times).for_each(|_| self.faults.plan(operation, fault.clone()));
    }

    /// Asserts that `left` of the planned faults have not happened yet.
    #[track_caller]
    fn assert_planned(&self, left: usize) {
        assert_eq!(self.faults.planned(), left, "faults that have not happened");
    }

    async fn is_locked(&self, text: &str) -> bool {
        self.others.is_locked(&key(text)).await.unwrap()
    }
}

fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

/// A gate that lets requests pass.
fn open_gate() -> Gate {
    let gate = Gate::default();
    gate.open();
    gate
}

#[track_caller]
fn error_of<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.err().expect("the call fails");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

/// Polls a future that is not ready, once.
async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) {
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// Waits until all work in the background is done.
async fn drained(locks: &LockManager) {
    assert_eq!(locks.shutdown(LONG).await, ShutdownOutcome::Drained);
}
