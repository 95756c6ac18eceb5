//! Runtimes that are starved. A current-thread runtime is not driven between two calls of
//! `block_on`. No runtime is starved more than that, and the tests need no clock to show it.

use std::{thread::sleep, time::Duration};

use syncguard_core::{ErrorKind, LockGuard, LockManager, Operation, Renew, backend::LockBackend};
use syncguard_memory::MemoryBackend;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::timeout,
};

use super::{
    error_of,
    store::RecordingStore,
    time::{millis, secs},
};

/// Longer than several renewals take at an interval of ten milliseconds, even on a busy machine.
const RENEWAL_TIMEOUT: Duration = secs(60);

fn starved() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until renewals have been sent while the starved runtime is not driven.
fn await_renewals<B: LockBackend>(renewals: &Runtime, store: &RecordingStore<B>) {
    let due = store.sent(Operation::Extend).len() + 5;
    let renewed = async {
        while store.sent(Operation::Extend).len() < due {
            tokio::time::sleep(millis(1)).await;
        }
    };
    renewals
        .block_on(async { timeout(RENEWAL_TIMEOUT, renewed).await })
        .expect("renewals continue");
}

/// Acquires a lock on a starved runtime, with renewals on another one.
fn held(locks: &LockManager, starved: &Runtime) -> LockGuard {
    let lock = locks.lock("k").ttl(RENEWAL_TIMEOUT * 2).renew(Renew::Every(millis(10)));
    starved.block_on(lock.acquire()).unwrap()
}

#[test]
fn a_lease_whose_renewals_were_starved_is_not_valid_at_the_first_check() {
    let (starved, store) = (starved(), RecordingStore::new(MemoryBackend::new()));
    let lock = LockManager::new(store.clone()).lock("k").ttl(millis(300)).renew(Renew::Auto);
    let guard = starved.block_on(lock.acquire()).unwrap();
    sleep(millis(300));
    assert!(!guard.is_valid());
    error_of(guard.fence(), ErrorKind::Lost);
    assert_eq!(store.sent(Operation::Extend), [], "no renewal reported it");
}

#[test]
fn renewals_on_a_runtime_of_their_own_are_not_starved() {
    let (renewals, starved) = (Runtime::new().unwrap(), starved());
    let store = RecordingStore::new(MemoryBackend::new());
    let locks = LockManager::builder(store.clone()).runtime(renewals.handle().clone()).build();
    let guard = held(&locks, &starved);
    await_renewals(&renewals, &store);
    assert!(guard.is_valid(), "{:?}", guard.loss());
}

#[test]
fn renewals_on_a_runtime_of_their_own_do_not_wait_for_requests_of_a_starved_one() {
    let (renewals, starved) = (Runtime::new().unwrap(), starved());
    let store = RecordingStore::new(MemoryBackend::new());
    let locks = LockManager::builder(store.clone()).runtime(renewals.handle().clone()).build();
    let guard = held(&locks, &starved);
    let stuck = || store.in_flight(Operation::Acquire);
    store.delay(Operation::Acquire, RENEWAL_TIMEOUT * 2);
    starved.block_on(async {
        for number in 0..4 {
            tokio::spawn(locks.lock(format!("k{number}")).run(async |_| ()));
        }
        while stuck() < 4 {
            yield_now().await;
        }
    });
    await_renewals(&renewals, &store);
    assert_eq!(stuck(), 4, "requests of the starved runtime are in flight");
    assert!(guard.is_valid(), "{:?}", guard.loss());
}
