//! The times at which a waiter sends requests, and at which it times out.

use std::time::Duration;

use syncguard_core::{
    ErrorKind, Jitter, LockGuard, LockManager, Operation, Renew, Retry, backend::LockBackend,
    contract::Fault,
};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    LONG, World, error_of,
    time::{TICK, assert_all_at, assert_at, millis, secs},
};

/// How long after the key is free, at least and at most, a waiter retries.
const RETRY_DELAY: (Duration, Duration) = (millis(2), millis(10));

/// Waits for the lock without retries of its own.
fn wait_without_retries(world: &World) -> JoinHandle<LockGuard> {
    let lock = world.locks().lock("k").wait(LONG).retry(Retry::fixed(LONG));
    tokio::spawn(async move { lock.acquire().await.unwrap() })
}

#[track_caller]
fn assert_shortly_after(happened: Duration, free: Duration) {
    let (min, max) = (free + RETRY_DELAY.0, free + RETRY_DELAY.1 + TICK);
    assert!(min <= happened && happened <= max, "at {happened:?} instead of {free:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_lasts_five_seconds_by_default() {
    let world = World::new();
    world.hold_elsewhere("k", LONG).await;
    error_of(world.locks().lock("k").acquire().await, ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(5));
}

/// A task that waits keeps it.
#[tokio::test(start_paused = true)]
async fn the_future_of_an_acquire_is_small() {
    let size = size_of_val(&World::new().locks().lock("k").acquire());
    assert!(size < 3_072, "{size} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_wait_lasts_as_long_as_it_is_configured() {
    let world = World::new();
    world.hold_elsewhere("k", LONG).await;
    let lock = world.locks().lock("k").wait(millis(61_234));
    error_of(lock.acquire().await, ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), millis(61_234));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time_while_a_request_is_in_flight() {
    let world = World::new();
    world.hold_elsewhere("k", LONG).await;
    world.store.delay(Operation::Acquire, secs(3));
    error_of(world.locks().lock("k").wait(secs(4)).acquire().await, ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(4));
    assert_all_at(&world.sent(Operation::Acquire), &[secs(0), secs(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_before_the_first_reply_reports_how_long_a_grant_may_last() {
    let world = World::new();
    world.store.delay(Operation::Acquire, secs(3));
    let lock = world.locks().lock("k").ttl(secs(90)).wait(secs(2));
    let error = error_of(lock.acquire().await, ErrorKind::Ambiguous);
    // With the grace of a second.
    assert_eq!(error.free_within(), Some(secs(91)));
}

#[tokio::test(start_paused = true)]
async fn without_wake_ups_a_waiter_retries_on_its_schedule_and_ends_with_it() {
    let world = World::new();
    world.hold_elsewhere("k", LONG).await;
    let retry = Retry::exponential(millis(100)).jitter(Jitter::None).limit(7);
    let lock = world.locks().lock("k").wait(LONG).retry(retry);
    error_of(lock.acquire().await, ErrorKind::AcquisitionTimeout);
    // The second attempt follows the subscription to releases.
    let due = [0, 0, 100, 300, 700, 1_500, 3_100, 5_100, 7_100].map(millis);
    assert_all_at(&world.sent(Operation::Acquire), &due);
    assert_at(world.clock.elapsed(), millis(7_100));
}

#[tokio::test(start_paused = true)]
async fn by_default_a_delay_doubles_up_to_two_seconds_and_half_of_it_is_random() {
    let world = World::new();
    world.hold_elsewhere("k", LONG).await;
    error_of(world.locks().lock("k").wait(secs(60)).acquire().await, ErrorKind::AcquisitionTimeout);
    let sent = world.sent(Operation::Acquire);
    let delays = [100, 200, 400, 800, 1_600].into_iter().chain(std::iter::repeat(2_000));
    assert!(sent.len() > 30, "{sent:?}");
    for (gap, delay) in sent[1..].windows(2).map(|pair| pair[1] - pair[0]).zip(delays.map(millis)) {
        assert!(delay / 2 <= gap && gap <= delay + TICK, "{gap:?} of {delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_retries_when_the_holders_grace_is_over_and_not_before() {
    let world = World::new();
    world.hold_elsewhere("k", secs(10)).await;
    wait_without_retries(&world).await.unwrap().release().await.unwrap();
    let sent = world.sent(Operation::Acquire);
    assert_all_at(&sent[..2], &[secs(0), secs(0)]);
    assert_shortly_after(sent[2], secs(11));
    assert_eq!(sent.len(), 3, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_starts_within_the_grace_retries_at_its_end() {
    let world = World::new();
    world.hold_elsewhere("k", secs(10)).await;
    sleep(millis(10_600)).await;
    wait_without_retries(&world).await.unwrap().release().await.unwrap();
    let sent = world.sent(Operation::Acquire);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert_shortly_after(sent[2], secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_retries_at_the_old_expiry_of_a_holder_that_extends_then_at_the_new_one() {
    // The retry delay is random.
    for _ in 0..16 {
        let world = World::new();
        let lock = world.hold_elsewhere("k", secs(10)).await;
        let waiter = wait_without_retries(&world);
        sleep(secs(8)).await;
        world.extend_elsewhere(&lock, secs(100)).await;
        waiter.await.unwrap().release().await.unwrap();
        let sent = world.sent(Operation::Acquire);
        assert_eq!(sent.len(), 4, "{sent:?}");
        assert_shortly_after(sent[2], secs(11));
        assert_shortly_after(sent[3], secs(109));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_a_permanent_error() {
    let world = World::new();
    world.plan(Operation::Acquire, &Fault::Refused, 1);
    let error = world.locks().lock("k").wait(LONG).acquire().await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(world.sent(Operation::Acquire).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_wakes_a_waiter_immediately() {
    let world = World::new();
    let lock = world.hold_elsewhere("k", LONG).await;
    let waiter = wait_without_retries(&world);
    sleep(secs(3_000)).await;
    world.release_elsewhere(&lock).await;
    waiter.await.unwrap().release().await.unwrap();
    assert_all_at(&world.sent(Operation::Acquire), &[0, 0, 3_000].map(secs));
}

/// Waits for an hour for a lock that another process renews all the time.
async fn wait_for_an_hour(world: &World, retry: Option<Retry>) {
    let others = LockManager::builder(world.others.clone()).clock(world.clock.shared()).build();
    let holder = others.lock("k").renew(Renew::Auto).acquire().await.unwrap();
    let lock = world.locks().lock("k").wait(secs(3_600));
    let lock = match retry {
        Some(retry) => lock.retry(retry),
        None => lock,
    };
    error_of(lock.acquire().await, ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(3_600));
    assert!(holder.is_valid());
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_waiting_for_a_holder_that_renews_costs_an_attempt_for_each_of_its_leases() {
    let world = World::new();
    wait_for_an_hour(&world, Some(Retry::fixed(LONG))).await;
    // A grant of 30 s that is renewed every 10 s has at least 20 s left, and the grace.
    let attempts = world.sent(Operation::Acquire).len();
    assert!(attempts <= 2 + 3_600 / 21, "{attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_waiting_on_the_default_schedule_costs_less_than_an_attempt_a_second() {
    let world = World::new();
    wait_for_an_hour(&world, None).await;
    let attempts = world.sent(Operation::Acquire).len();
    assert!(attempts < 3_600, "{attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_and_the_longest_delay_work() {
    let world = World::new();
    let lock = world.hold_elsewhere("k", syncguard_core::Ttl::MAX.as_duration()).await;
    let wait = world.locks().lock("k").wait(Duration::MAX).retry(Retry::fixed(Duration::MAX));
    let waiter = tokio::spawn(async move { wait.acquire().await.unwrap() });
    sleep(secs(60)).await;
    world.release_elsewhere(&lock).await;
    waiter.await.unwrap().release().await.unwrap();
}

/// Under contention, a subscription may be notified of a release while it subscribes, and so may
/// the next one.
#[tokio::test(start_paused = true)]
async fn subscriptions_that_resolve_immediately_miss_no_release() {
    let world = World::new();
    let held = world.hold_elsewhere("k", LONG).await;
    world.store.resolve_immediately(4);
    let waiter = wait_without_retries(&world);
    sleep(secs(1)).await;
    world.others.release(&held).await.unwrap();
    let _ = waiter.await.unwrap();
    assert_at(world.clock.elapsed(), secs(1));
}
