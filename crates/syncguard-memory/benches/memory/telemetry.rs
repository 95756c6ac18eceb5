use std::time::{Duration, Instant};

use syncguard_core::{
    LockId, LockKey, LockManager, Ttl,
    backend::{AcquireRequest, LockBackend, LockRef},
    telemetry::Observed,
};
use syncguard_memory::MemoryBackend;
use syncguard_testkit::{
    bench::{Bar, Table, median},
    traced::Trace,
};

use crate::pair;

const SAMPLES: usize = 100;
const PAIRS: u32 = 400;

/// How many nanoseconds an observer may add to one operation.
const MAX_OBSERVER_COST: f64 = 500.0;

pub(crate) async fn measure(table: &mut Table) {
    let (mut plain, mut traced) = (vec![], vec![]);
    let (mut bare, mut with_observer) = (f64::INFINITY, f64::INFINITY);
    let locks = LockManager::new(MemoryBackend::new());
    let backend = MemoryBackend::new();
    let observed = Observed::new(MemoryBackend::new(), |_| ());
    for _ in 0..SAMPLES {
        plain.push(pair::sample(&locks).await);
        bare = bare.min(operation(&backend).await);
        with_observer = with_observer.min(operation(&observed).await);
    }
    let (rare, rare_observed) = (rarely(&backend).await, rarely(&observed).await);
    for _ in 0..10 {
        let (_trace, _tracing) = Trace::begin();
        traced.push(pair::sample(&locks).await);
    }
    table.note("lock and release, without a subscriber", median(plain), "ns");
    table.note("lock and release, with a subscriber that keeps all spans", median(traced), "ns");
    table.note("one operation of the backend", bare, "ns");
    let what = "additional cost of an observer with an empty callback";
    table.judge(what, with_observer - bare, "ns", Bar::AtMost(MAX_OBSERVER_COST));
    table.note("additional cost if operations come every 3 ms", rare_observed - rare, "ns");
    let (events, missed) = (f64::from(PAIRS) * 2.0 * SAMPLES as f64, observed.missed());
    table.note("events missed by the callback", missed as f64 * 100.0 / events, "%");
}

/// Returns the nanoseconds for one operation after a pause of 3 ms.
async fn rarely(backend: &impl LockBackend) -> f64 {
    let key = LockKey::new("bench:rarely").unwrap();
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        std::thread::sleep(Duration::from_millis(3));
        let start = Instant::now();
        backend.is_locked(&key).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e9);
    }
    median(times)
}

/// Returns the nanoseconds for one operation, on average over acquires and releases.
async fn operation(backend: &impl LockBackend) -> f64 {
    let key = LockKey::new("bench:operation").unwrap();
    let id = LockId::mint().unwrap();
    let request = AcquireRequest::new(key.clone(), id, Ttl::default());
    let lock = LockRef::new(id, key);
    let start = Instant::now();
    for _ in 0..PAIRS {
        let _ = backend.acquire(&request).await.unwrap();
        let _ = backend.release(&lock).await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(2 * PAIRS)
}
