//! Many waiters.

use std::sync::{Arc, Mutex};

use syncguard_core::{LockManager, Operation, Retry, backend::LockRef};
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{
    LONG, World, drained,
    time::{millis, secs},
};

const WAITERS: usize = 1_000;

const KEYS: usize = 10_000;

/// Adds waiters to the queue for a lock, one after the other. Each records its number.
async fn spawn_waiters(locks: &LockManager, served: &Arc<Mutex<Vec<usize>>>) -> JoinSet<()> {
    let mut waiters = JoinSet::new();
    for number in 0..WAITERS {
        let lock = locks.lock("k").wait(LONG).retry(Retry::fixed(LONG));
        let served = served.clone();
        waiters.spawn(async move {
            let guard = lock.acquire().await.unwrap();
            served.lock().unwrap().push(number);
            sleep(millis(5)).await;
            guard.release().await.unwrap();
        });
        yield_now().await;
    }
    waiters
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_are_served_in_order_with_at_most_three_attempts_each() {
    let (world, served) = (World::new(), Arc::default());
    let lock = world.hold_elsewhere("k", LONG).await;
    let waiters = spawn_waiters(&world.locks(), &served).await;
    sleep(secs(3_600)).await;
    assert_eq!(world.sent(Operation::Acquire).len(), 2, "one waiter sends requests for all");
    assert_eq!(world.store.subscriptions(), 1);

    world.release_elsewhere(&lock).await;
    waiters.join_all().await;
    assert_eq!(*served.lock().unwrap(), Vec::from_iter(0..WAITERS));
    // One finds the key held by the previous holder, one may follow a wake-up that the previous
    // waiter left behind, and one follows the release.
    let attempts = world.sent(Operation::Acquire).len();
    assert!(attempts <= 2 + 3 * WAITERS, "{attempts} attempts");
    assert_eq!(world.store.max_in_flight(Operation::Acquire), 1);
    assert_eq!(world.store.subscriptions(), 0);
}

/// How the waits for ten thousand locks end.
enum WaitEnd {
    Served,
    TimedOut,
    Dropped,
}

/// Waits for ten thousand locks, and returns how many subscriptions to a release are left. A queue
/// that was left behind would keep the subscription of its last head.
async fn subscriptions_left(ending: WaitEnd) -> usize {
    let (world, mut waiters) = (World::new(), JoinSet::new());
    let locks = world.locks();
    let mut held: Vec<LockRef> = Vec::new();
    for number in 0..KEYS {
        let text = format!("k{number}");
        held.push(world.hold_elsewhere(&text, LONG).await);
        let lock = locks.lock(text).wait(secs(60)).retry(Retry::fixed(LONG));
        waiters.spawn(async move { lock.acquire().await.is_ok() });
    }
    sleep(secs(1)).await;
    assert_eq!(world.store.subscriptions(), KEYS, "all waiters have subscribed");
    match ending {
        WaitEnd::Served => {
            for lock in &held {
                world.release_elsewhere(lock).await;
            }
            assert!(waiters.join_all().await.into_iter().all(|served| served));
        }
        WaitEnd::TimedOut => {
            assert!(waiters.join_all().await.into_iter().all(|served| !served));
        }
        WaitEnd::Dropped => waiters.shutdown().await,
    }
    drained(&locks).await;
    world.store.subscriptions()
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_removed_after_its_waiters_were_served() {
    assert_eq!(subscriptions_left(WaitEnd::Served).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_removed_after_its_waiters_timed_out() {
    assert_eq!(subscriptions_left(WaitEnd::TimedOut).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_removed_after_its_waiters_were_dropped() {
    assert_eq!(subscriptions_left(WaitEnd::Dropped).await, 0);
}
