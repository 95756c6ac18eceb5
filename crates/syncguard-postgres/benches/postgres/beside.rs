use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use syncguard_core::{LockId, LockManager};
use syncguard_testkit::bench::{Table, median};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    connect,
    raw::{Notify, Raw},
};

/// The number of measured releases by a TypeScript client.
const RELEASES: usize = 10;

/// How long the key is held before a release: long enough for the retry delays to have grown.
const HELD: Duration = Duration::from_secs(3);

/// How long the waiter competes with looping workers, and how long it waits for the key each time.
const BESIDE: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(10);

/// How long a worker holds the key, and how long it pauses after it found the key held. After a
/// release it reacquires the key at once.
const HOLD: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(100);

/// Measures a single waiter that competes with clients that notify no one of their releases.
pub(crate) async fn measure(url: &str, table: &mut Table) {
    let delays = after_releases(url).await;
    let longest = delays.iter().copied().fold(0.0, f64::max);
    table.note("release by the original to entry, median", median(delays), "ms");
    table.note("release by the original to entry, longest", longest, "ms");
    for workers in [1, 2, 8] {
        let (waits, failed) = beside(url, workers).await;
        let what = format!("beside {workers} looping workers of the original");
        table.note(&format!("{what}, grants in 30 s"), waits.len() as f64, "");
        let longest = waits.iter().copied().fold(0.0, f64::max);
        table.note("  … longest wait", longest, "ms");
        table.note("  … waits of 10 s that failed", failed as f64, "");
    }
}

/// Returns the times from releases of a TypeScript client to entries of a waiter.
async fn after_releases(url: &str) -> Vec<f64> {
    let locks = LockManager::new(connect(url, 2).await);
    let mut peer = Raw::connect(url, Notify::Never).await;
    let (key, mut delays) = ("bench:silent:000000", Vec::new());
    for _ in 0..RELEASES {
        let id = LockId::mint().unwrap();
        assert!(peer.typescript_acquire(key, id).await);
        let waiter = tokio::spawn({
            let wait = locks.lock(key).wait(WAIT);
            async move {
                let guard = wait.acquire().await.unwrap();
                let entered = Instant::now();
                guard.release().await.unwrap();
                entered
            }
        });
        sleep(HELD).await;
        peer.typescript_release(id).await;
        let released = Instant::now();
        delays.push(waiter.await.unwrap().saturating_duration_since(released).as_secs_f64() * 1e3);
    }
    delays
}

/// Returns the waits of a single waiter that ended with a grant, in milliseconds, and the number of
/// waits that failed.
async fn beside(url: &str, workers: usize) -> (Vec<f64>, usize) {
    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, Ordering::Relaxed);
    let key = "bench:beside:000000";
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let mut worker = Raw::connect(url, Notify::Never).await;
        tasks.spawn(async move {
            while !STOP.load(Ordering::Relaxed) {
                let id = LockId::mint().unwrap();
                if worker.typescript_acquire(key, id).await {
                    sleep(HOLD).await;
                    worker.typescript_release(id).await;
                } else {
                    sleep(PAUSE).await;
                }
            }
        });
    }
    let locks = LockManager::new(connect(url, 2).await);
    let (mut waits, mut failed, begun) = (Vec::new(), 0, Instant::now());
    while begun.elapsed() < BESIDE {
        let asked = Instant::now();
        match locks.lock(key).wait(WAIT).acquire().await {
            Ok(guard) => {
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
                guard.release().await.unwrap();
            }
            Err(_) => failed += 1,
        }
        sleep(PAUSE).await;
    }
    STOP.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    (waits, failed)
}
