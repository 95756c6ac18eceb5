//! Where and how guards are dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Fault, Faulty, Harness,
    steps::{self, *},
};
use crate::{BootClock, Clock, ErrorKind, LockManager, Operation, Renew, backend::LockBackend};

/// A dropped guard releases its lock in the background, without blocking.
pub async fn a_dropped_guard_releases_its_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    drop(held(&locks, "k", LONG).await);
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// A guard that is dropped on a thread without a runtime still releases its lock.
pub async fn a_guard_dropped_outside_a_runtime_releases_its_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", LONG).await;
    std::thread::spawn(move || drop(guard)).join().expect("dropping does not panic");
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// A guard that is dropped by a panic releases its lock.
pub async fn a_guard_dropped_by_a_panic_releases_its_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", LONG).await;
    let task = tokio::spawn(async move {
        let _guard = guard;
        panic!("the work panics");
    });
    assert!(task.await.expect_err("it panics").is_panic());
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// A guard that is dropped after its runtime was shut down, with no other runtime, neither blocks
/// nor panics; the failure is reported, and the ttl ends the lock.
pub async fn a_guard_dropped_after_its_runtime_is_reported_and_expires<H: Harness>(h: H) {
    let a = h.client().await;
    let reports = Arc::new(AtomicUsize::new(0));
    let count = reports.clone();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let locks = LockManager::builder(h.client().await)
        .runtime(runtime.handle().clone())
        .on_release_error(move |error| {
            assert_eq!(error.kind(), ErrorKind::Aborted);
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build();
    let guard = held(&locks, "k", SHORT).await;
    runtime.shutdown_background();
    // On a thread without a runtime: a live one around the drop would release the lock.
    std::thread::spawn(move || drop(guard)).join().expect("dropping does not panic");
    eventually("the drop is reported", async || reports.load(Ordering::SeqCst) == 1).await;
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&a, "k").await);
}

/// A guard that renews keeps its lock beyond its ttl; once dropped, it stops.
pub async fn a_renewing_guard_keeps_its_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let guard = locks.lock("k").ttl(BRIEF).renew(Renew::Auto).acquire().await.expect("is free");
    h.advance(BRIEF + a.capabilities().grace + SLACK).await;
    assert!(guard.is_valid());
    contended(&a, &request_for("k", LONG)).await;
    drop(guard);
    drained(&locks).await;
    granted(&a, &request_for("k", LONG)).await;
}

/// A guard does not renew by default.
pub async fn a_guard_does_not_renew_by_default<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", SHORT).await;
    expire(&h, &a, SHORT).await;
    assert!(!guard.is_valid());
    granted(&a, &request_for("k", LONG)).await;
}

/// Renewals continue after lost replies and requests that were not sent.
pub async fn renewals_survive_transient_failures<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let guard = locks.lock("k").ttl(BRIEF).renew(Renew::Auto).acquire().await.expect("is free");
    for fault in [Fault::NotSent, Fault::ReplyLost, Fault::RequestLost] {
        faulty.plan(Operation::Extend, fault);
    }
    h.advance(BRIEF * 2).await;
    assert!(guard.is_valid());
    assert_eq!(faulty.planned(), 0, "the faults happened");
}

/// A renewing guard whose store is unreachable is lost at its deadline, not sooner and not later.
pub async fn a_renewing_guard_is_lost_at_its_deadline_if_the_store_is_unreachable<H: Harness>(
    h: H,
) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    for _ in 0..1_000 {
        faulty.plan(Operation::Extend, Fault::RequestLost);
    }
    let (sent, ttl) = (BootClock.now(), Duration::from_millis(600));
    let guard = locks.lock("k").ttl(ttl).renew(Renew::Auto).acquire().await.expect("is free");
    lost_in_time(&guard, BootClock.now(), ttl).await;
    let least = ttl - steps::ttl(ttl).margin();
    assert!(BootClock.now().since(sent) >= least, "lost within {:?}", BootClock.now().since(sent));
    guard.lost().await;
    assert_eq!(guard.loss(), Some(crate::Loss::Expired));
    assert!(faulty.planned() < 1_000, "renewals were attempted");
}

/// A guard is lost immediately if the store reports that its id holds no lock.
pub async fn a_renewing_guard_is_lost_when_the_store_reports_not_held<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let guard = locks.lock("k").ttl(LONG).renew(Renew::Every(SHORT)).acquire().await;
    let guard = guard.expect("is free");
    released(&a, guard.lock_id().into()).await;
    guard.lost().await;
    assert_eq!(guard.loss(), Some(crate::Loss::NotHeld));
}

/// A lock is held no longer than `max_hold`, whatever the renewals.
pub async fn a_lock_is_held_no_longer_than_max_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let lock = locks.lock("k").ttl(LONG).renew(Renew::Every(SHORT / 3)).max_hold(SHORT);
    let guard = lock.acquire().await.expect("is free");
    guard.lost().await;
    assert_eq!(guard.loss(), Some(crate::Loss::MaxHold));
    drop(guard);
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}
