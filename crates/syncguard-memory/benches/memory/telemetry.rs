use std::time::{Duration, Instant};

use syncguard_core::{
    AcquireRequest, LockBackend, LockId, LockKey, LockManager, LockRef, Ttl, telemetry::Observed,
};
use syncguard_memory::MemoryBackend;
use syncguard_testkit::{
    bench::{Bar, Table, median},
    traced::Trace,
};

use crate::pair;

const ROUNDS: usize = 100;
const PAIRS: u32 = 400;

/// What one operation may cost more when it is observed.
const OBSERVED: f64 = 500.0;

pub(crate) async fn measure(table: &mut Table) {
    let (mut plain, mut traced) = (vec![], vec![]);
    let (mut bare, mut told) = (f64::INFINITY, f64::INFINITY);
    let locks = LockManager::new(MemoryBackend::new());
    let backend = MemoryBackend::new();
    let observed = Observed::new(MemoryBackend::new(), |_| ());
    for _ in 0..ROUNDS {
        plain.push(pair::round(&locks).await);
        bare = bare.min(operation(&backend).await);
        told = told.min(operation(&observed).await);
    }
    let (rare, rare_observed) = (rarely(&backend).await, rarely(&observed).await);
    for _ in 0..10 {
        let (_trace, _tracing) = Trace::begin();
        traced.push(pair::round(&locks).await);
    }
    table.note("lock and release, nobody listens", median(plain), "ns");
    table.note("lock and release, all spans kept by a subscriber", median(traced), "ns");
    table.note("one operation at the backend", bare, "ns");
    let what = "what it costs more to observe it by an empty callback";
    table.judge(what, told - bare, "ns", Bar::AtMost(OBSERVED));
    table.note("what it costs more where operations come every 3 ms", rare_observed - rare, "ns");
    let (events, missed) = (f64::from(PAIRS) * 2.0 * ROUNDS as f64, observed.missed());
    table.note("events that the callback missed", missed as f64 * 100.0 / events, "%");
}

/// Gives the nanoseconds for one operation that comes alone.
async fn rarely(backend: &impl LockBackend) -> f64 {
    let key = LockKey::new("bench:rarely").unwrap();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(3));
        let start = Instant::now();
        backend.is_locked(&key).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e9);
    }
    median(times)
}

/// Gives the nanoseconds for one operation, on average over acquires and releases.
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
