use std::time::Instant;

use syncguard_core::LockManager;

const PAIRS: u32 = 2_000;
const ROUNDS: usize = 200;

/// Gives the nanoseconds for a lock and its release, on average over one round.
pub(crate) async fn round(locks: &LockManager) -> f64 {
    let start = Instant::now();
    for _ in 0..PAIRS {
        let guard = locks.lock("bench:pair").acquire().await.unwrap();
        let _ = guard.release().await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS)
}

/// Gives the least of many rounds: what it takes while nothing else runs.
pub(crate) async fn least(locks: &LockManager) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        least = least.min(round(locks).await);
    }
    least
}
