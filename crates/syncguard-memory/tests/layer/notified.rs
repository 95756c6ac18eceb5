//! The schedule of a waiter that the store notifies of releases.

use std::time::Duration;

use syncguard_core::{ErrorKind, Jitter, LockGuard, LockManager, Operation, Retry};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    LONG, World, error_of,
    store::RecordingStore,
    time::{TICK, assert_all_at, assert_at, millis, secs},
};

/// The longest time between two attempts.
const MAX_DELAY: Duration = secs(15);

/// Attempts are made at multiples of this.
const ALIGNMENT: Duration = millis(100);

fn notified(world: &World) -> LockManager {
    let store = RecordingStore::clone(&world.store).subscribed();
    LockManager::builder(store).clock(world.clock.shared()).build()
}

/// Waits for a lock for this long, in vain, and returns when attempts were made.
async fn attempts(world: &World, wait: Duration, retry: Option<Retry>) -> Vec<Duration> {
    world.hold_elsewhere("k", LONG).await;
    let lock = notified(world).lock("k").wait(wait);
    let lock = match retry {
        Some(retry) => lock.retry(retry),
        None => lock,
    };
    error_of(lock.acquire().await, ErrorKind::AcquisitionTimeout);
    world.sent(Operation::Acquire)
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_has_grown_to_two_seconds_doubles_up_to_fifteen() {
    let world = World::new();
    let sent = attempts(&world, secs(600), None).await;
    assert_at(world.clock.elapsed(), secs(600));
    let delays = [100, 200, 400, 800, 1_600, 4_000, 8_000].into_iter();
    let delays = delays.chain(std::iter::repeat(15_000)).map(millis);
    for (gap, delay) in sent[1..].windows(2).map(|pair| pair[1] - pair[0]).zip(delays) {
        assert!(gap <= (delay + ALIGNMENT).min(MAX_DELAY) + TICK, "{gap:?} of {delay:?}");
        // A delay consists of delays of up to two seconds.
        let min =
            if delay > secs(2) { (delay / 2).saturating_sub(millis(2_100)) } else { delay / 2 };
        assert!(gap >= min, "{gap:?} of {delay:?}");
    }
    assert!(sent.len() < 600 / 8, "{} attempts", sent.len());
}

#[tokio::test(start_paused = true)]
async fn retries_that_are_left_out_count_and_the_last_one_is_made() {
    let world = World::new();
    let sent = attempts(&world, LONG, Some(Retry::default().jitter(Jitter::None))).await;
    // Ten retries: the sixth, and those from the eighth to the last but one, are left out.
    assert_eq!(sent.len(), 2 + 7, "{sent:?}");
    let last = millis(100 + 200 + 400 + 800 + 1_600) + secs(5 * 2);
    let ended = world.clock.elapsed();
    assert!(last <= ended && ended <= last + ALIGNMENT * 7, "{ended:?}");
    assert_at(sent[8], ended);
}

#[tokio::test(start_paused = true)]
async fn a_delay_or_a_cap_that_was_set_is_kept_to() {
    let set = [Retry::fixed(secs(2)), Retry::exponential(secs(2)).max_delay(secs(2))];
    for retry in set {
        let world = World::new();
        let sent = attempts(&world, secs(100), Some(retry.jitter(Jitter::None).unlimited())).await;
        let due: Vec<_> = [0].into_iter().chain((0..50).map(|nth| 2 * nth)).map(secs).collect();
        assert_all_at(&sent[..50], &due[..50]);
    }
}

fn waiting(locks: &LockManager, key: &str) -> JoinHandle<LockGuard> {
    let lock = locks.lock(key).ttl(LONG).wait(LONG);
    tokio::spawn(async move { lock.acquire().await.unwrap() })
}

#[tokio::test(start_paused = true)]
async fn a_release_wakes_a_waiter_immediately() {
    let world = World::new();
    let held = world.hold_elsewhere("k", LONG).await;
    let waiter = waiting(&notified(&world), "k");
    sleep(millis(1_000_050)).await;
    world.release_elsewhere(&held).await;
    let _guard = waiter.await.unwrap();
    assert_at(world.clock.elapsed(), millis(1_000_050));
}

#[tokio::test(start_paused = true)]
async fn a_lost_notification_costs_at_most_fifteen_seconds() {
    for seconds in 1_000..1_016 {
        let world = World::new();
        let held = world.hold_elsewhere("k", LONG).await;
        let store = RecordingStore::clone(&world.store).without_wake_ups().subscribed();
        let locks = LockManager::builder(store).clock(world.clock.shared()).build();
        let waiter = waiting(&locks, "k");
        sleep(secs(seconds)).await;
        world.release_elsewhere(&held).await;
        let _guard = waiter.await.unwrap();
        assert!(world.clock.elapsed() <= secs(seconds) + MAX_DELAY + TICK);
    }
}

#[tokio::test(start_paused = true)]
async fn the_holders_expiry_comes_first() {
    let world = World::new();
    world.hold_elsewhere("k", secs(100)).await;
    let _guard = waiting(&notified(&world), "k").await.unwrap();
    // With the grace, and the random delay after it.
    assert!(world.clock.elapsed() <= secs(101) + millis(10) + TICK);
}

#[tokio::test(start_paused = true)]
async fn waiters_for_different_keys_make_their_attempts_together() {
    const KEYS: usize = 50;
    let world = World::new();
    let locks = notified(&world);
    let mut waiters = Vec::new();
    for number in 0..KEYS {
        let key = format!("k{number}");
        world.hold_elsewhere(&key, LONG).await;
        waiters.push(waiting(&locks, &key));
        sleep(millis(7)).await;
    }
    sleep(secs(60)).await;
    let mut sent = world.sent(Operation::Acquire);
    sent.retain(|at| *at > millis(7) * 50);
    assert!(sent.len() > KEYS * 5, "{} attempts", sent.len());
    for at in sent {
        let since = at.as_millis() % ALIGNMENT.as_millis();
        assert!(since <= TICK.as_millis(), "at {at:?}");
    }
    waiters.iter().for_each(JoinHandle::abort);
}
