//! Waiting for a lock.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time::{Instant, timeout};

use super::{CaseOutcome, Fault, Faulty, Gate, Harness, steps::*};
use crate::{ErrorKind, LockBackend, LockKey, LockManager, Operation, Retry, WakeUp};

const WAKES_NO_ONE: CaseOutcome = CaseOutcome::Skipped("the backend does not wake waiters");

/// A waiter gets the lock when it is released by the same process.
pub async fn a_waiter_gets_the_lock_when_it_is_released<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", LONG).await;
    let waiter = tokio::spawn(locks.lock("k").wait(LONG).acquire());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiter.is_finished());
    guard.release().await.expect("answers");
    let guard = waiter.await.expect("no panic").expect("its turn comes");
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
        waiter.await.expect("no panic").expect("its turn comes").release().await.expect("answers");
    }
}

/// A waiter gets the lock when its holder's grant is over.
pub async fn a_waiter_gets_the_lock_when_its_holder_is_gone<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    granted(&a, &ask("k", SHORT)).await;
    // Neither the schedule nor a release helps here.
    let lock = locks.lock("k").wait(LONG).retry(Retry::fixed(LONG));
    drop(lock.acquire().await.expect("its turn comes"));
}

/// A wait that is not granted ends on time, long before the holder's ttl, with an error that names
/// the holder.
pub async fn a_wait_ends_in_time_and_names_the_holder<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let _guard = theirs.lock("k").owner("them").ttl(LONG).try_acquire().await.expect("answers");
    let start = Instant::now();
    let wait = timeout(LONG / 4, mine.lock("k").wait(SHORT).acquire()).await;
    let error = error_of(wait.expect("it ends"), ErrorKind::AcquisitionTimeout);
    assert!(start.elapsed() >= SHORT, "it ended after {:?}", start.elapsed());
    let holder = error.holder().expect("something is known");
    assert_eq!(holder.owner.as_ref().expect("it is known").as_str(), "them");
    assert!(error.is_retryable() && error.to_string().contains("them"), "{error}");
}

/// The retries are bounded too, and a wait of zero asks once.
pub async fn retries_are_bounded_and_a_wait_of_zero_asks_once<H: Harness>(h: H) {
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
pub async fn the_wait_bounds_a_request_on_its_way<H: Harness>(h: H) {
    let (a, gate) = (h.client().await, Gate::new());
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::ReplyHeld(gate.clone()));
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
            let work = async |_| order.send(n).expect("somebody listens");
            locks.lock("k").wait(LONG).run(work).await.expect("its turn comes");
        });
        // Each joins the queue before the next one is started.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    guard.release().await.expect("answers");
    for n in 0..8 {
        assert_eq!(served.recv().await, Some(n));
    }
}

/// However many tasks wait, only one of them asks the store.
pub async fn one_waiter_of_a_process_asks_the_store<H: Harness>(h: H) {
    let a = h.client().await;
    let request = ask("k", LONG);
    granted(&a, &request).await;
    let (faulty, gate) = (Faulty::new(h.client().await), Gate::new());
    let locks = LockManager::new(faulty.clone());
    for _ in 0..3 {
        faulty.plan(Operation::Acquire, Fault::RequestHeld(gate.clone()));
    }
    let lock = || locks.lock("k").wait(LONG).acquire();
    let mut waiters = tokio::task::JoinSet::from_iter((0..20).map(|_| lock()));
    gate.reached().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        faulty.planned(),
        2,
        "one request stands at the gate, nineteen tasks wait behind it"
    );
    released(&a, lock_of(&request)).await;
    gate.open();
    for number in 2..=21 {
        let guard = waiters.join_next().await.expect("one more").expect("no panic");
        let guard = guard.expect("its turn comes");
        assert_eq!(guard.fence().expect("is held").number(), number);
        guard.release().await.expect("answers");
    }
}

/// A wake-up subscription that is made before an attempt misses no release that comes after it.
pub async fn a_subscription_misses_no_release<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = (h.client().await, h.client().await);
    if a.capabilities().wake_up == WakeUp::None {
        let woken = timeout(SHORT, a.released(&key("k"))).await;
        assert!(woken.is_err(), "it said that it never wakes anybody");
        return Err(WAKES_NO_ONE);
    }
    for _ in 0..10 {
        let request = ask("k", LONG);
        granted(&b, &request).await;
        let mut woken = std::pin::pin!(a.released(&request.key));
        // The first poll subscribes; it may resolve spuriously, which breaks no promise.
        let first = std::future::poll_fn(|context| {
            std::task::Poll::Ready(woken.as_mut().poll(context).is_ready())
        });
        if first.await {
            released(&b, lock_of(&request)).await;
            continue;
        }
        contended(&a, &ask("k", LONG)).await;
        released(&b, lock_of(&request)).await;
        timeout(LONG / 6, woken).await.expect("the release wakes the subscriber");
    }
    Ok(())
}

/// Subscribes until a subscription stays pending. One may resolve spuriously, but not each of them.
async fn resting<'a>(
    a: &'a impl LockBackend,
    key: &'a LockKey,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    for _ in 0..10 {
        let mut woken = Box::pin(a.released(key));
        if timeout(SHORT, &mut woken).await.is_err() {
            return woken;
        }
    }
    panic!("each subscription resolves though nothing is released");
}

/// A subscription waits for a release: a waiter must not be sent to the store all the time.
pub async fn a_subscription_rests_between_releases<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = ask("k", LONG);
    granted(&b, &request).await;
    drop(resting(&a, &request.key).await);
}

/// A subscriber is woken however the grant ends: released, abandoned, or released by force.
pub async fn a_subscription_sees_every_way_to_end_a_grant<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = (h.client().await, h.client().await);
    let capabilities = a.capabilities();
    if capabilities.wake_up == WakeUp::None {
        return Err(WAKES_NO_ONE);
    }
    for way in [Operation::Release, Operation::Abandon, Operation::ForceRelease] {
        if way == Operation::ForceRelease && !capabilities.list {
            break;
        }
        let request = ask("k", LONG);
        granted(&b, &request).await;
        let woken = resting(&a, &request.key).await;
        match way {
            Operation::Abandon => b.abandon(request.lock_id, &request.key).await.expect("answers"),
            Operation::ForceRelease => {
                drop(b.force_release(&request.key).await.expect("answers"));
            }
            _ => released(&b, lock_of(&request)).await,
        }
        timeout(LONG / 6, woken).await.unwrap_or_else(|_| panic!("{way:?} wakes no one"));
    }
    Ok(())
}
