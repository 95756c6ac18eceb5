use std::time::{Duration, Instant};

use fred::types::Value;
use syncguard_core::{LockId, LockManager};
use syncguard_testkit::bench::{Bar, Table, median};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use crate::{connect, raw::Raw};

const KEY: &str = "bench:peers";
const ACQUIRE: &str = include_str!("lua/acquire_peer.lua");
const RELEASE: &str = include_str!("lua/release_peer.lua");

/// How long a peer holds the lock, and how long it pauses before it requests the next one.
const HOLD: Duration = Duration::from_millis(20);
const GAP: Duration = Duration::from_micros(300);

/// How long a peer waits after contention before it retries, and how long our waiter pauses between
/// two acquires.
const PAUSE: Duration = Duration::from_millis(100);

const WAIT: Duration = Duration::from_secs(10);

/// How long our waiter runs with each number of peers.
const WINDOW: Duration = Duration::from_secs(30);

const RELEASES: usize = 15;

/// Measures how a single waiter competes with TypeScript-like workers that loop on its key and
/// publish no release.
pub(crate) async fn measure(url: &str, table: &mut Table) {
    let locks = LockManager::new(connect(url).await);
    let raw = Raw::connect(url).await;
    for workers in [1, 2, 8] {
        let mut peers = JoinSet::new();
        for _ in 0..workers {
            peers.spawn(work(raw.clone()));
        }
        let (mut waits, mut failed, begun) = (Vec::new(), 0_u32, Instant::now());
        while begun.elapsed() < WINDOW {
            sleep(PAUSE).await;
            let start = Instant::now();
            match locks.lock(KEY).wait(WAIT).acquire().await {
                Ok(guard) => {
                    waits.push(start.elapsed().as_secs_f64() * 1e3);
                    guard.release().await.unwrap();
                }
                Err(_) => failed += 1,
            }
        }
        peers.shutdown().await;
        raw.call("DEL", &["syncguard:bench:peers"]).await;
        let beside = format!("beside {workers} peers that loop");
        let grants = waits.len() as f64;
        table.judge(&format!("grants in 30 s {beside}"), grants, "", Bar::AtLeast(5.0));
        if !waits.is_empty() {
            let longest = waits.iter().copied().fold(0.0, f64::max);
            table.note("  … its wait, p50", median(waits), "ms");
            table.note("  … the longest", longest, "ms");
        }
        table.judge("  … waits of 10 s that failed", f64::from(failed), "", Bar::AtMost(0.0));
    }
    after_a_release(&locks, &raw, table).await;
}

/// Measures the time from a peer's release to the grant of a waiter that has waited for a second.
async fn after_a_release(locks: &LockManager, raw: &Raw, table: &mut Table) {
    let mut delays = Vec::new();
    for _ in 0..RELEASES {
        let id = LockId::mint().unwrap();
        assert!(acquire(raw, id.as_str()).await);
        let waiter = tokio::spawn(locks.lock(KEY).wait(WAIT).acquire());
        sleep(Duration::from_secs(1)).await;
        release(raw, id.as_str()).await;
        let released = Instant::now();
        let guard = waiter.await.unwrap().unwrap();
        delays.push(released.elapsed().as_secs_f64() * 1e3);
        guard.release().await.unwrap();
    }
    let what = "a peer's release to the entry of a waiter, p50";
    table.judge(what, median(delays), "ms", Bar::AtMost(30.0));
}

async fn work(raw: Raw) {
    loop {
        let id = LockId::mint().unwrap();
        if acquire(&raw, id.as_str()).await {
            sleep_precisely(HOLD).await;
            release(&raw, id.as_str()).await;
            sleep_precisely(GAP).await;
        } else {
            sleep(PAUSE).await;
        }
    }
}

/// Sleeps on a thread, because the runtime's timer has a resolution of a millisecond.
async fn sleep_precisely(time: Duration) {
    spawn_blocking(move || std::thread::sleep(time)).await.unwrap();
}

async fn acquire(raw: &Raw, id: &str) -> bool {
    let index = format!("syncguard:id:{id}");
    let keys = ["syncguard:bench:peers", "syncguard:fence:syncguard:bench:peers", &index];
    let words = [&[ACQUIRE, "3"], keys.as_slice(), &[id, "30000", KEY]].concat();
    raw.call("EVAL", &words).await == Value::Integer(1)
}

async fn release(raw: &Raw, id: &str) {
    let index = format!("syncguard:id:{id}");
    raw.call("EVAL", &[RELEASE, "1", &index, id]).await;
}
