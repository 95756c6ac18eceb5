//! Many waiters.

use std::sync::{Arc, Mutex};

use syncguard_core::{LockManager, LockRef, Operation, Retry};
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{
    LONG, World, drained,
    time::{millis, secs},
};

const HERD: usize = 1_000;

const KEYS: usize = 10_000;

/// Lets one waiter after the other join the queue for a lock. Each of them notes its number.
async fn herd(locks: &LockManager, served: &Arc<Mutex<Vec<usize>>>) -> JoinSet<()> {
    let mut waiters = JoinSet::new();
    for number in 0..HERD {
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
async fn a_thousand_waiters_are_served_in_their_order_at_three_attempts_each_at_most() {
    let (world, served) = (World::new(), Arc::default());
    let lock = world.hold_elsewhere("k", LONG).await;
    let waiters = herd(&world.locks(), &served).await;
    sleep(secs(3_600)).await;
    assert_eq!(world.sent(Operation::Acquire).len(), 2, "one of them asks, for all");
    assert_eq!(world.store.subscriptions(), 1);

    world.release_elsewhere(&lock).await;
    waiters.join_all().await;
    assert_eq!(*served.lock().unwrap(), Vec::from_iter(0..HERD));
    // One meets the holder before it, one may follow a wake-up that its predecessor left behind, and
    // one comes after the release.
    let attempts = world.sent(Operation::Acquire).len();
    assert!(attempts <= 2 + 3 * HERD, "{attempts} attempts");
    assert_eq!(world.store.most_at_once(Operation::Acquire), 1);
    assert_eq!(world.store.subscriptions(), 0);
}

/// How those who wait for ten thousand locks stop to do so.
enum Ending {
    Served,
    GivenUp,
    Dropped,
}

/// Waits for ten thousand locks, and returns how many waits for a release are left in the end. A
/// queue that was left behind would go on with that of its last head.
async fn subscriptions_left(ending: Ending) -> usize {
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
    assert_eq!(world.store.subscriptions(), KEYS, "all of them wait");
    match ending {
        Ending::Served => {
            for lock in &held {
                world.release_elsewhere(lock).await;
            }
            assert!(waiters.join_all().await.into_iter().all(|served| served));
        }
        Ending::GivenUp => {
            assert!(waiters.join_all().await.into_iter().all(|served| !served));
        }
        Ending::Dropped => waiters.shutdown().await,
    }
    drained(&locks).await;
    world.store.subscriptions()
}

#[tokio::test(start_paused = true)]
async fn queues_end_with_waiters_that_were_served() {
    assert_eq!(subscriptions_left(Ending::Served).await, 0);
}

#[tokio::test(start_paused = true)]
async fn queues_end_with_waiters_that_gave_up() {
    assert_eq!(subscriptions_left(Ending::GivenUp).await, 0);
}

#[tokio::test(start_paused = true)]
async fn queues_end_with_waiters_that_were_dropped() {
    assert_eq!(subscriptions_left(Ending::Dropped).await, 0);
}
