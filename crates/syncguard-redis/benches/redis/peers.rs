use std::time::{Duration, Instant};

use fred::types::Value;
use syncguard_core::{LockId, SyncGuard};
use syncguard_tests::bench::{Bar, Table, median};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use crate::{connect, raw::Raw};

const KEY: &str = "bench:peers";
const ACQUIRE: &str = include_str!("lua/acquire_peer.lua");
const RELEASE: &str = include_str!("lua/release_peer.lua");

/// How long a peer holds the lock, and how long it waits before it asks again, with or without it.
const HOLD: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(20);

const WAIT: Duration = Duration::from_secs(10);
const ENTRIES: usize = 20;

/// How a lone waiter fares beside TypeScript-like workers that loop on its key: they publish no release.
pub(crate) async fn measure(url: &str, table: &mut Table) {
    let locks = SyncGuard::new(connect(url).await);
    let raw = Raw::connect(url).await;
    for workers in [1, 2, 8] {
        let mut peers = JoinSet::new();
        for _ in 0..workers {
            peers.spawn(work(raw.clone()));
        }
        let (mut waits, mut failed) = (Vec::new(), 0_u32);
        for _ in 0..ENTRIES {
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
        if !waits.is_empty() {
            let longest = waits.iter().copied().fold(0.0, f64::max);
            table.note(&format!("wait of a lone waiter {beside}, p50"), median(waits), "ms");
            table.note("  … the longest", longest, "ms");
        }
        table.judge("  … waits of 10 s that failed", f64::from(failed), "", Bar::AtMost(0.0));
    }
    after_a_release(&locks, &raw, table).await;
}

/// The time from a peer's release to the entry of a waiter that has waited for a second.
async fn after_a_release(locks: &SyncGuard, raw: &Raw, table: &mut Table) {
    let mut delays = Vec::new();
    for _ in 0..ENTRIES {
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
    table.note("a peer's release to the entry of a waiter, p50", median(delays), "ms");
}

async fn work(raw: Raw) {
    loop {
        let id = LockId::mint().unwrap();
        if acquire(&raw, id.as_str()).await {
            spawn_blocking(|| std::thread::sleep(HOLD)).await.unwrap();
            release(&raw, id.as_str()).await;
        }
        sleep(PAUSE).await;
    }
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
