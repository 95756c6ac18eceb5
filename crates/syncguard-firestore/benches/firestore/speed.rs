use std::{net::SocketAddr, time::Instant};

use syncguard_core::{
    LockId, LockKey, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, LockRef},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::bench::{Bar, Table, median, to_micros};

use crate::{connect, raw::Raw};

const KEY: &str = "bench:alone:00000000";

/// The number of turns of each contestant.
const TURNS: usize = 31;

const TASKS: usize = 64;

/// The number of pairs of acquire and release in a turn.
const PAIRS: usize = 1_600;

/// The number of pairs that are timed individually.
const SEQUENTIAL_PAIRS: usize = 4_000;

pub(crate) async fn measure(server: SocketAddr, table: &mut Table) {
    sequential(server, table).await;
    concurrent(server, table).await;
}

/// Measures how long a pair takes in one task, without contention. All contestants take turns pair
/// by pair, so a disturbance affects all of them.
async fn sequential(server: SocketAddr, table: &mut Table) {
    let (backend, driver, bare) = (connect(server), Raw::driver(server), Raw::bare(server));
    let mut times = [(); 3].map(|()| Vec::new());
    let key = LockKey::new(KEY).unwrap();
    for _ in 0..SEQUENTIAL_PAIRS {
        times[0].push(micros(bare.acquire_and_release(KEY)).await);
        times[1].push(micros(driver.acquire_and_release(KEY)).await);
        times[2].push(micros(acquire_and_release(&backend, &key)).await);
    }
    let [bare, driver, ours] = times.map(median);
    table.note("acquire + release, one task, three calls over a channel, p50", bare, "µs");
    table.note("acquire + release, one task, three calls over the driver, p50", driver, "µs");
    table.note("acquire + release, one task, p50", ours, "µs");
    table.judge("  … beside the driver", ours / driver, "×", Bar::AtMost(1.15));
    table.note("  … beside the channel", ours / bare, "×");
}

/// Measures the pairs per second of 64 tasks, each with its own key. Only rates of the same turn
/// are compared, because the load of the machine may differ in the next.
async fn concurrent(server: SocketAddr, table: &mut Table) {
    let (backend, driver, bare) = (connect(server), Raw::driver(server), Raw::bare(server));
    let mut rates = [(); 3].map(|()| Vec::new());
    for _ in 0..TURNS {
        let bare = bare.clone();
        let over_a_channel = move |key: LockKey| {
            let bare = bare.clone();
            async move { bare.acquire_and_release(key.as_str()).await }
        };
        rates[0].push(per_second(over_a_channel).await);
        let driver = driver.clone();
        let over_the_driver = move |key: LockKey| {
            let driver = driver.clone();
            async move { driver.acquire_and_release(key.as_str()).await }
        };
        rates[1].push(per_second(over_the_driver).await);
        let backend = backend.clone();
        let work = move |key: LockKey| {
            let backend = backend.clone();
            async move { acquire_and_release(&backend, &key).await }
        };
        rates[2].push(per_second(work).await);
    }
    let [bare, driver, ours] = &rates;
    let beside = |floor: &[f64]| median(ours.iter().zip(floor).map(|(one, of)| one / of).collect());
    let (beside_driver, beside_channel) = (beside(driver), beside(bare));
    let [bare, driver, ours] = rates.map(median);
    table.note("64 tasks, three calls over a channel, p50", bare, "pairs/s");
    table.note("64 tasks, three calls over the driver, p50", driver, "pairs/s");
    table.note("64 tasks, p50", ours, "pairs/s");
    table.judge("  … beside the driver, p50", beside_driver, "×", Bar::AtLeast(0.85));
    table.note("  … beside the channel, p50", beside_channel, "×");
}

async fn acquire_and_release(backend: &FirestoreBackend, key: &LockKey) {
    let request = AcquireRequest::new(key.clone(), LockId::mint().unwrap(), Ttl::default());
    let outcome = backend.acquire(&request).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
    backend.release(&LockRef::new(request.lock_id, request.key)).await.unwrap();
}

async fn per_second<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn(LockKey) -> F + Clone + Send + 'static,
) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let work = work.clone();
        tasks.spawn(async move {
            let key = LockKey::new(&format!("bench:task:{task:09}")).unwrap();
            for _ in 0..PAIRS / TASKS {
                work(key.clone()).await;
            }
        });
    }
    tasks.join_all().await;
    PAIRS as f64 / start.elapsed().as_secs_f64()
}

async fn micros(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    to_micros(start.elapsed())
}
