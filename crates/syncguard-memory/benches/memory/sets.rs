use std::time::Instant;

use syncguard_core::{LockKey, LockManager};
use syncguard_memory::MemoryBackend;
use syncguard_testkit::bench::{Bar, Table, median};

const SAMPLES: usize = 400;
const SETS: usize = 200;

/// How much more three keys may cost under one guard than under three.
const MAX_COST: f64 = 10.0;

pub(crate) async fn measure(table: &mut Table) {
    let locks = LockManager::new(MemoryBackend::new());
    let key = |number| LockKey::new(&format!("bench:set:{number}")).unwrap();
    let sets: Vec<_> = (0..SETS).map(|set| [3 * set, 3 * set + 1, 3 * set + 2].map(key)).collect();
    let (mut singly, mut together) = (vec![], vec![]);
    for _ in 0..SAMPLES {
        singly.push(acquire_singly(&locks, &sets).await);
        together.push(acquire_together(&locks, &sets).await);
    }
    let (singly, together) = (median(singly), median(together));
    table.note("three acquires", singly, "ns");
    table.note("one acquire of three keys", together, "ns");
    let what = "additional cost of one guard for three keys";
    table.judge(what, (together / singly - 1.0) * 100.0, "%", Bar::AtMost(MAX_COST));
}

/// Returns the nanoseconds for three acquires.
async fn acquire_singly(locks: &LockManager, sets: &[[LockKey; 3]]) -> f64 {
    let mut guards = Vec::with_capacity(3 * sets.len());
    let start = Instant::now();
    for key in sets.iter().flatten() {
        guards.push(locks.lock(key).acquire().await.unwrap());
    }
    let elapsed = start.elapsed();
    for guard in guards {
        guard.release().await.unwrap();
    }
    elapsed.as_secs_f64() * 1e9 / SETS as f64
}

/// Returns the nanoseconds for one acquire of three keys.
async fn acquire_together(locks: &LockManager, sets: &[[LockKey; 3]]) -> f64 {
    let mut guards = Vec::with_capacity(sets.len());
    let start = Instant::now();
    for keys in sets {
        guards.push(locks.lock_all(keys).acquire().await.unwrap());
    }
    let elapsed = start.elapsed();
    for guard in guards {
        guard.release().await.unwrap();
    }
    elapsed.as_secs_f64() * 1e9 / SETS as f64
}
