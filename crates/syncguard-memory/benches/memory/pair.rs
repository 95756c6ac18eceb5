use std::time::Instant;

use syncguard_core::LockManager;

const PAIRS: u32 = 2_000;
const SAMPLES: usize = 200;

/// Returns the nanoseconds for a lock and its release, on average over one sample.
pub(crate) async fn sample(locks: &LockManager) -> f64 {
    let start = Instant::now();
    for _ in 0..PAIRS {
        let guard = locks.lock("bench:pair").acquire().await.unwrap();
        let _ = guard.release().await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS)
}

/// Returns the minimum of many samples: the time while nothing else runs.
pub(crate) async fn minimum(locks: &LockManager) -> f64 {
    let mut minimum = f64::INFINITY;
    for _ in 0..SAMPLES {
        minimum = minimum.min(sample(locks).await);
    }
    minimum
}
