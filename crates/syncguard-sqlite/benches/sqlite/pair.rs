use std::time::Instant;

use syncguard_core::{
    LockId, LockKey, Ttl,
    backend::{AcquireRequest, LockBackend, LockRef},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use tokio::runtime::Runtime;

const PAIRS: u32 = 10;
const ROUNDS: usize = 300;

/// Returns the microseconds for a grant and its release at the backend, averaged over one round:
/// the minimum of many short rounds, which is the time without other load.
pub(crate) fn least(runtime: fn() -> Runtime) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locks.db");
    runtime().block_on(async {
        let backend = SqliteBackend::connect(SqliteConfig::new(path)).await.unwrap();
        let mut least = f64::INFINITY;
        for _ in 0..ROUNDS {
            least = least.min(round(&backend).await);
        }
        least
    })
}

async fn round(backend: &SqliteBackend) -> f64 {
    let key = LockKey::new("bench:pair:000000").unwrap();
    let start = Instant::now();
    for _ in 0..PAIRS {
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(key.clone(), id, Ttl::default());
        let _ = backend.acquire(&request).await.unwrap();
        let _ = backend.release(&LockRef::new(id, key.clone())).await.unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PAIRS)
}
