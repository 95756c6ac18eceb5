//! Blocking code that keeps the heartbeat from running. In real time: that is what it takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use syncguard_core::{ErrorKind, Operation, Renew, SyncGuard};
use syncguard_memory::MemoryBackend;
use syncguard_sqlite::SqliteBackend;
use tokio::runtime::Runtime;

use super::{
    error_of,
    store::Watched,
    time::{millis, secs},
};

/// Blocks the thread, and proves that no task of its runtime ran meanwhile.
async fn block(duration: Duration) {
    let beats = Arc::new(AtomicUsize::new(0));
    let count = beats.clone();
    let heart = tokio::spawn(async move {
        loop {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    tokio::task::yield_now().await;
    let before = beats.load(Ordering::SeqCst);
    assert_ne!(before, 0, "it beats");
    thread::sleep(duration);
    assert_eq!(beats.load(Ordering::SeqCst), before);
    heart.abort();
}

#[tokio::test]
async fn a_lease_whose_renewals_were_starved_is_not_valid_when_first_asked() {
    let store = Watched::new(MemoryBackend::new());
    let lock = SyncGuard::new(store.clone()).lock("k").ttl(millis(300)).renew(Renew::Auto);
    let guard = lock.acquire().await.unwrap();
    block(millis(400)).await;
    assert!(!guard.is_valid());
    error_of(guard.fence(), ErrorKind::Lost);
    assert_eq!(store.sent(Operation::Extend), [], "no renewal told it");
}

#[tokio::test]
async fn renewals_on_a_runtime_of_their_own_are_not_starved() {
    let renewals = Runtime::new().unwrap();
    let store = Watched::new(MemoryBackend::new());
    let locks = SyncGuard::builder(store.clone()).runtime(renewals.handle().clone()).build();
    let guard = locks.lock("k").ttl(secs(1)).renew(Renew::Auto).acquire().await.unwrap();
    block(millis(2_500)).await;
    assert!(guard.is_valid(), "{:?}", guard.loss());
    assert!(store.sent(Operation::Extend).len() > 2);
    guard.release().await.unwrap();
    renewals.shutdown_background();
}

#[tokio::test]
async fn renewals_on_a_runtime_of_their_own_do_not_wait_for_requests_of_a_starved_one() {
    let directory = tempfile::tempdir().unwrap();
    let renewals = Runtime::new().unwrap();
    let open = SqliteBackend::open(directory.path().join("locks.db"));
    let store = Watched::new(renewals.spawn(open).await.unwrap().unwrap());
    let locks = SyncGuard::builder(store.clone()).runtime(renewals.handle().clone()).build();
    let guard = locks.lock("k").ttl(secs(2)).renew(Renew::Auto).acquire().await.unwrap();
    for number in 0..4 {
        let locks = locks.clone();
        tokio::spawn(async move {
            loop {
                locks.lock(format!("k{number}")).run(async |_| ()).await.unwrap();
            }
        });
    }
    tokio::time::sleep(millis(50)).await;
    block(millis(4_500)).await;
    let on_their_way = |operation| store.on_their_way(operation);
    let stuck = on_their_way(Operation::Acquire) + on_their_way(Operation::Release);
    assert_ne!(stuck, 0, "requests of the starved runtime were on their way");
    assert!(guard.is_valid(), "{:?}", guard.loss());
    assert!(store.sent(Operation::Extend).len() > 2);
    renewals.shutdown_background();
}
