//! Waiting for a lock.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use super::{CaseOutcome, Fault, Faulty, Gate, Harness, steps::*};
use crate::{
    ErrorKind, LockManager, Operation, Retry,
    backend::{LockBackend, WakeUp},
};

/// A waiter gets the lock when it is released by the same process.
pub async fn a_waiter_gets_the_lock_when_it_is_released<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", LONG).await;
    let waiter = tokio::spawn(locks.lock("k").wait(LONG).acquire());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiter.is_finished());
    guard.release().await.expect("answers");
    let guard = waiter.await.expect("no panic").expect("it is granted the lock");
    assert_eq!(guard.fence().expect("is held").number(), 2);
}

/// A waiter gets the lock when another process releases it, without a wake-up at the latest at the
/// next attempt of its schedule.
pub async fn a_waiter_gets_the_lock_when_another_process_releases_it<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    for number in 1..=5 {
        let guard = held(&theirs, "k", LONG).await;
        let waiter = tokio::spawn(mine.lock("k").wait(LONG).acquire());
        tokio::time::sleep(Duration::from_millis(5 * number)).await;
        guard.release().await.expect("answers");
        waiter
            .await
            .expect("no panic")
            .expect("it is granted the lock")
            .release()
            .await
            .expect("answers");
    }
}

/// A waiter gets the lock when the holder's grant has expired.
pub async fn a_waiter_gets_the_lock_when_the_holders_grant_expires<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    granted(&a, &request_for("k", SHORT)).await;
    // Neither the schedule nor a release wakes the waiter here.
    let lock = locks.lock("k").wait(LONG).retry(Retry::fixed(LONG));
    drop(lock.acquire().await.expect("it is granted the lock"));
}

/// A wait that is not granted ends on time, long before the holder's ttl, with an error that names
/// the holder.
pub async fn a_wait_ends_in_time_and_names_the_holder<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let _guard = theirs.lock("k").owner("them").ttl(LONG).try_acquire().await.expect("answers");
    let start = Instant::now();
    let wait = timeout(LONG / 4, mine.lock("k").wait(SHORT).acquire()).await;
    let error = error_of(wait.expect("it ends"), ErrorKind::AcquisitionTimeout);
    assert!(start.elapsed() >= SHORT, "the wait ended after {:?}", start.elapsed());
    let holder = error.holder().expect("something is known");
    assert_eq!(holder.owner.as_ref().expect("it is known").as_str(), "them");
    assert!(error.is_retryable() && error.to_string().contains("them"), "{error}");
}

/// The retries are bounded too, and a wait of zero makes one attempt.
pub async fn retries_are_bounded_and_a_wait_of_zero_attempts_once<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let _guard = held(&theirs, "k", LONG).await;
    let retry = Retry::fixed(Duration::from_millis(1)).limit(3);
    let result = mine.lock("k").wait(LONG).retry(retry).acquire().await;
    error_of(result, ErrorKind::AcquisitionTimeout);
    let result = mine.lock("k").wait(Duration::ZERO).acquire().await;
    error_of(result, ErrorKind::AcquisitionTimeout);
    drop(mine.lock("free").wait(Duration::ZERO).acquire().await.expect("is free"));
}

/// The wait bounds the call even while a request is in flight; a grant that results from it is
/// released.
pub async fn the_wait_bounds_a_request_in_flight<H: Harness>(h: H) {
    let (a, gate) = (h.client().await, Gate::new());
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::ReplyDelayed(gate.clone()));
    let start = Instant::now();
    let result = locks.lock("k").ttl(LONG).wait(SHORT).acquire().await;
    let error = error_of(result, ErrorKind::Ambiguous);
    assert!(error.free_within().expect("is bounded") >= LONG);
    assert!(start.elapsed() < LONG);
    assert!(is_locked(&a, "k").await, "it was granted meanwhile");
    gate.open();
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// The tasks of one process are served in order of arrival.
pub async fn waiters_of_one_process_are_served_in_order<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", LONG).await;
    let (order, mut served) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..8 {
        let (locks, order) = (locks.clone(), order.clone());
        tokio::spawn(async move {
            let work = async |_| order.send(n).expect("the receiver exists");
            locks.lock("k").wait(LONG).run(work).await.expect("it is granted the lock");
        });
        // Each joins the queue before the next one is started.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    guard.release().await.expect("answers");
    for n in 0..8 {
        assert_eq!(served.recv().await, Some(n));
    }
}

/// However many tasks wait, only one of them sends requests to the store.
pub async fn one_waiter_per_process_sends_requests<H: Harness>(h: H) {
    let a = h.client().await;
    let request = request_for("k", LONG);
    granted(&a, &request).await;
    let (faulty, gate) = (Faulty::new(h.client().await), Gate::new());
    let locks = LockManager::new(faulty.clone());
    for _ in 0..3 {
        faulty.plan(Operation::Acquire, Fault::RequestDelayed(gate.clone()));
    }
    let lock = || locks.lock("k").wait(LONG).acquire();
    let mut waiters = tokio::task::JoinSet::from_iter((0..20).map(|_| lock()));
    gate.reached().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        faulty.planned(),
        2,
        "one request is at the gate, and nineteen tasks wait in the queue"
    );
    released(&a, lock_of(&request)).await;
    gate.open();
    for number in 2..=21 {
        let guard = waiters.join_next().await.expect("one more").expect("no panic");
        let guard = guard.expect("it is granted the lock");
        assert_eq!(guard.fence().expect("is held").number(), number);
        guard.release().await.expect("answers");
    }
}

/// A subscription that starts before an attempt misses no release after that attempt.
pub async fn a_subscription_misses_no_release<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = (h.client().await, h.client().await);
    if a.capabilities().wake_up == WakeUp::None {
        let woken = timeout(SHORT, a.released(&key("k"))).await;
        assert!(woken.is_err(), "its capabilities report no wake-ups");
        assert!(!a.is_subscribed(&key("k")), "its capabilities report no wake-ups");
        return Err(NO_WAKE_UP);
    }
    for _ in 0..10 {
        let request = request_for("k", LONG);
        granted(&b, &request).await;
        let mut woken = std::pin::pin!(a.released(&request.key));
        // The first poll subscribes. It may resolve spuriously, which is allowed.
        let first = std::future::poll_fn(|context| {
            std::task::Poll::Ready(woken.as_mut().poll(context).is_ready())
        });
        if first.await {
            released(&b, lock_of(&request)).await;
            continue;
        }
        contended(&a, &request_for("k", LONG)).await;
        released(&b, lock_of(&request)).await;
        notified("the release", woken).await;
    }
    Ok(())
}

/// A subscription stays pending without a release, so that waiters do not poll the store in a loop.
pub async fn a_subscription_stays_pending_between_releases<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    granted(&b, &request).await;
    drop(pending_subscription(&a, &request.key).await);
}

/// A subscriber is notified however the grant ends: by release, abandon, or force release.
pub async fn a_subscription_is_notified_however_a_grant_ends<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = (h.client().await, h.client().await);
    let capabilities = a.capabilities();
    if capabilities.wake_up == WakeUp::None {
        return Err(NO_WAKE_UP);
    }
    for way in [Operation::Release, Operation::Abandon, Operation::ForceRelease] {
        if way == Operation::ForceRelease && !capabilities.list {
            break;
        }
        let request = request_for("k", LONG);
        granted(&b, &request).await;
        let woken = pending_subscription(&a, &request.key).await;
        match way {
            Operation::Abandon => b.abandon(request.lock_id, &request.key).await.expect("answers"),
            Operation::ForceRelease => {
                drop(b.force_release(&request.key).await.expect("answers"));
            }
            _ => released(&b, lock_of(&request)).await,
        }
        notified(&format!("{way:?}"), woken).await;
    }
    Ok(())
}
