//! Settings at the limits of their ranges, and backends that misbehave.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, Jitter, LockId, LockKey, LockManager, Loss, Operation, ReleaseOutcome, Renew,
    Retry, ShutdownOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, LockBackend, LockQuery,
        LockRecord, LockRef,
    },
};
use syncguard_memory::MemoryBackend;

use super::{World, error_of, time::millis};

#[tokio::test(start_paused = true)]
async fn the_longest_durations_do_not_overflow() {
    let world = World::new();
    let locks = world.builder().request_timeout(Duration::MAX).build();
    let lock = locks.lock("k").ttl(Ttl::MAX).wait(Duration::MAX).max_hold(Duration::MAX);
    let guard = lock.renew(Renew::Every(Duration::MAX)).acquire().await.unwrap();
    guard.extend(Ttl::MAX).await.unwrap();
    for retry in [
        Retry::fixed(Duration::MAX),
        Retry::exponential(Duration::MAX).jitter(Jitter::None),
        Retry::default().max_delay(Duration::MAX),
    ] {
        let result = locks.lock("k").wait(millis(50)).retry(retry).acquire().await;
        error_of(result, ErrorKind::AcquisitionTimeout);
    }
    guard.release().await.unwrap();
    assert_eq!(locks.shutdown(Duration::MAX).await, ShutdownOutcome::Drained);
}

#[tokio::test(start_paused = true)]
async fn max_hold_ends_a_lock_whose_renewals_are_never_due() {
    let world = World::new();
    let lock = world.locks().lock("k").renew(Renew::Every(Duration::MAX)).max_hold(millis(100));
    let guard = lock.acquire().await.unwrap();
    guard.lost().await;
    assert_eq!(guard.loss(), Some(Loss::MaxHold));
}

#[tokio::test(start_paused = true)]
async fn retries_and_renewals_without_a_delay_are_a_millisecond_apart() {
    let world = World::new();
    let locks = world.locks();
    let renew = Renew::Every(Duration::ZERO);
    let _guard = locks.lock("k").renew(renew).acquire().await.unwrap();
    let retry = Retry::fixed(Duration::ZERO).unlimited();
    let result = locks.lock("k").wait(millis(100)).retry(retry).acquire().await;
    error_of(result, ErrorKind::AcquisitionTimeout);
    for operation in [Operation::Acquire, Operation::Extend] {
        let requests = world.sent(operation).len();
        assert!((10..=110).contains(&requests), "{requests} times {operation}");
    }
}

/// A backend whose subscriptions resolve spuriously, and whose extend and release panic.
#[derive(Clone)]
struct Misbehaving(MemoryBackend, Arc<Mutex<usize>>);

impl LockBackend for Misbehaving {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        *self.1.lock().unwrap() += 1;
        self.0.acquire(request).await
    }

    async fn extend(&self, _: &LockRef, _: Ttl) -> Result<ExtendOutcome, Error> {
        panic!("the backend panics")
    }

    async fn release(&self, _: &LockRef) -> Result<ReleaseOutcome, Error> {
        panic!("the backend panics")
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.0.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.0.abandon(lock_id, key).await
    }

    async fn released(&self, _: &LockKey) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_resolves_spuriously_does_not_cause_a_busy_loop() {
    let world = World::new();
    let store = Misbehaving(world.others.clone(), Arc::default());
    let _holder = world.hold_elsewhere("k", Duration::from_secs(60)).await;
    let result = LockManager::new(store.clone()).lock("k").wait(millis(200)).acquire().await;
    error_of(result, ErrorKind::AcquisitionTimeout);
    let attempts = *store.1.lock().unwrap();
    assert!((5..=210).contains(&attempts), "{attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_prevents_neither_the_loss_nor_the_report() {
    let world = World::new();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let recorded = reports.clone();
    let locks = LockManager::builder(Misbehaving(world.others.clone(), Arc::default()))
        .clock(world.clock.shared())
        .on_release_error(move |error| recorded.lock().unwrap().push(error.to_string()))
        .build();
    let lock = locks.lock("k").renew(Renew::Every(millis(50))).max_hold(millis(300));
    let guard = lock.acquire().await.unwrap();
    guard.lost().await;
    assert_eq!(guard.loss(), Some(Loss::MaxHold));
    drop(guard);
    super::drained(&locks).await;
    let reports = reports.lock().unwrap();
    assert!(matches!(&reports[..], [report] if report.contains("panicked")), "{reports:?}");
}

#[tokio::test(start_paused = true)]
async fn an_extend_that_panics_returns_an_error_and_does_not_lose_the_lock() {
    let world = World::new();
    let store = Misbehaving(world.others.clone(), Arc::default());
    let locks = LockManager::builder(store).clock(world.clock.shared()).build();
    let guard = locks.lock("k").acquire().await.unwrap();
    error_of(guard.extend(Duration::from_secs(60)).await, ErrorKind::Aborted);
    assert!(guard.is_valid());
    guard.keep();
}
