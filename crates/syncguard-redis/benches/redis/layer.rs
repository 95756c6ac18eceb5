use std::time::Instant;

use syncguard_core::{
    LockManager,
    backend::{LockBackend, LockRef},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    bench::Table,
    operations::{LONG, ask, granted},
};
use tokio::task::JoinSet;

const TASKS: usize = 64;
const PAIRS: usize = 1_000;

/// The number of turns of each contestant. The best turn counts, because a disturbance only makes a
/// turn slower.
const TURNS: usize = 9;

/// Measures what the lock layer adds to the backend: the guard, the queue, and telemetry without a
/// subscriber. To measure the cost of a change, compare with the same line of a program built
/// before the change.
pub(crate) async fn measure(url: &str, table: &mut Table) {
    let backend = crate::connect(url).await;
    let locks = LockManager::new(backend.clone());
    let (mut bare, mut layered) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TURNS {
        bare = bare.min(turn(|task| acquire_by_backend(backend.clone(), task)).await);
        layered = layered.min(turn(|task| acquire_by_layer(locks.clone(), task)).await);
    }
    table.note("acquire + release, 64 tasks, by the backend, best turn", bare, "µs");
    table.note("acquire + release, 64 tasks, by the lock layer, best turn", layered, "µs");
}

/// Returns the microseconds for one pair.
async fn turn<F: Future<Output = ()> + Send + 'static>(work: impl Fn(usize) -> F) -> f64 {
    let start = Instant::now();
    let tasks: JoinSet<()> = (0..TASKS).map(work).collect();
    tasks.join_all().await;
    start.elapsed().as_secs_f64() * 1e6 / (TASKS * PAIRS) as f64
}

async fn acquire_by_backend(backend: RedisBackend, task: usize) {
    let key = format!("bench:layer:{task}");
    for _ in 0..PAIRS {
        let request = ask(&key, LONG);
        granted(&backend, &request).await;
        backend.release(&LockRef::new(request.lock_id, request.key)).await.unwrap();
    }
}

async fn acquire_by_layer(locks: LockManager, task: usize) {
    let key = format!("bench:layer:{task}");
    for _ in 0..PAIRS {
        let guard = locks.lock(&key).acquire().await.unwrap();
        guard.release().await.unwrap();
    }
}
