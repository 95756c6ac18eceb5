//! Waiting for several keys: what happens to those that were taken before the last is granted.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, LockAllBuilder, LockAllGuard, LockManager, Loss, Operation, Renew, Retry,
    TryAcquireAllOutcome,
    backend::LockBackend,
    contract::{Fault, Gate},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    LONG, World, drained, error_of, key,
    time::{assert_all_at, assert_at, millis, secs},
};

/// More requests than any test sends.
const ALL: usize = 1_000;

const KEYS: [&str; 3] = ["a", "b", "c"];

/// The time from a request for 30 s to the deadline.
const LEASE: Duration = millis(28_500);

type Acquiring = JoinHandle<Result<LockAllGuard, Error>>;

/// Waits for three keys as long as it takes, and without retries of its own.
fn set(locks: &LockManager) -> LockAllBuilder {
    locks.lock_all(KEYS).ttl(secs(30)).wait(LONG).retry(Retry::fixed(LONG))
}

fn waiting(locks: &LockManager) -> Acquiring {
    tokio::spawn(set(locks).acquire())
}

async fn assert_all_free(world: &World, locks: &LockManager) {
    drained(locks).await;
    for text in KEYS {
        assert!(!world.is_locked(text).await, "{text} is left locked");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_taken_are_renewed_while_a_later_one_is_waited_for() {
    let world = World::new();
    let held = world.hold_elsewhere("c", LONG).await;
    let acquiring = waiting(&world.locks());
    sleep(secs(95)).await;
    let sent = world.sent(Operation::Extend);
    assert!(sent.len() >= 2 * 9, "{sent:?}");
    world.release_elsewhere(&held).await;
    let guard = acquiring.await.unwrap().unwrap();
    assert_eq!(guard.fence("a").unwrap().number(), 1, "it was never lost");
    assert!(guard.remaining() >= LEASE - secs(10), "since the last renewals");
    guard.lost().await;
    assert_eq!(world.sent(Operation::Extend), sent, "a guard is not renewed by default");
}

#[tokio::test(start_paused = true)]
async fn renewals_during_and_after_the_wait_follow_the_configured_interval() {
    let world = World::new();
    let held = world.hold_elsewhere("c", LONG).await;
    let acquiring = tokio::spawn(set(&world.locks()).renew(Renew::Every(secs(25))).acquire());
    sleep(secs(70)).await;
    assert_all_at(&world.sent(Operation::Extend), &[25, 25, 50, 50].map(secs));
    world.release_elsewhere(&held).await;
    let guard = acquiring.await.unwrap().unwrap();
    sleep(secs(80)).await;
    // The keys that were taken long ago are renewed immediately, and the last one in its time.
    let due = [70, 70, 95, 95, 95, 120, 120, 120, 145, 145, 145].map(secs);
    assert_all_at(&world.sent(Operation::Extend)[4..], &due);
    assert!(guard.is_valid());
}

/// Returns a guard of three keys that was handed over while the first renewals of the first two were
/// held up.
async fn held_with_renewals_in_flight(world: &World, fault: fn(Gate) -> Fault) -> Handed {
    let (held, gate) = (world.hold_elsewhere("c", LONG).await, Gate::new());
    world.plan(Operation::Extend, &fault(gate.clone()), 2);
    let acquiring = waiting(&world.locks());
    gate.reached().await;
    gate.reached().await;
    world.release_elsewhere(&held).await;
    (acquiring.await.unwrap().unwrap(), gate)
}

type Handed = (LockAllGuard, Gate);

#[tokio::test(start_paused = true)]
async fn a_renewal_in_flight_when_the_last_key_is_granted_counts_for_the_guard() {
    let world = World::new();
    let (guard, gate) = held_with_renewals_in_flight(&world, Fault::ReplyDelayed).await;
    assert_eq!(guard.remaining(), LEASE - world.clock.elapsed(), "since the grant of `a`");
    let lease = guard.lease();
    let extending = tokio::spawn(async move { lease.extend(secs(600)).await });
    sleep(secs(1)).await;
    let sent = world.sent(Operation::Extend).len();
    assert_eq!(sent, 3, "two renewals and the extend of `c`: none overtakes a renewal");
    gate.open();
    extending.await.unwrap().unwrap();
    assert_eq!(guard.remaining(), secs(570) - secs(1), "no doubt remains that would shorten it");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_flight_when_the_last_key_is_granted_extends_the_guard() {
    let world = World::new();
    let (guard, gate) = held_with_renewals_in_flight(&world, Fault::ReplyDelayed).await;
    gate.open();
    sleep(secs(1)).await;
    let renewed = world.sent(Operation::Extend)[0];
    assert_eq!(guard.remaining(), renewed + LEASE - world.clock.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_flight_that_finds_a_key_lost_ends_the_guard() {
    let world = World::new();
    let (guard, gate) = held_with_renewals_in_flight(&world, Fault::RequestDelayed).await;
    world.release_by_force("b").await;
    assert!(guard.is_valid(), "no one has noticed yet");
    let opened = world.clock.elapsed();
    gate.open();
    guard.lost().await;
    assert_eq!(guard.loss(), Some((&key("b"), Loss::NotHeld)));
    assert_at(world.clock.elapsed(), opened);
}

#[tokio::test(start_paused = true)]
async fn one_wait_bounds_all_keys_together_and_leaves_none_of_them() {
    let world = World::new();
    let first = world.hold_elsewhere("a", LONG).await;
    let other = world.builder().build();
    let _second = other.lock("b").ttl(LONG).owner("ci-7").acquire().await.unwrap();
    let locks = world.locks();
    let acquiring = tokio::spawn(locks.lock_all(KEYS).wait(secs(40)).acquire());
    sleep(secs(30)).await;
    world.release_elsewhere(&first).await;
    let error = error_of(acquiring.await.unwrap(), ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(40));
    assert_eq!(error.key(), Some(key("b").display_hash()));
    assert_eq!(error.holder().unwrap().owner.as_ref().unwrap().as_str(), "ci-7");
    drained(&locks).await;
    assert!(!world.is_locked("a").await && !world.is_locked("c").await);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_several_keys_lasts_five_seconds_by_default() {
    let world = World::new();
    world.hold_elsewhere("b", LONG).await;
    let locks = world.locks();
    error_of(locks.lock_all(KEYS).acquire().await, ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time_while_the_request_for_a_later_key_is_in_flight() {
    let world = World::new();
    world.store.delay(Operation::Acquire, secs(3));
    let locks = world.locks();
    let error = error_of(locks.lock_all(KEYS).wait(secs(4)).acquire().await, ErrorKind::Ambiguous);
    assert_at(world.clock.elapsed(), secs(4));
    assert_eq!(error.key(), Some(key("b").display_hash()));
    assert_all_free(&world, &locks).await;
}

#[tokio::test(start_paused = true)]
async fn retries_that_are_used_up_end_the_wait_and_leave_no_key() {
    let world = World::new();
    let held = world.hold_elsewhere("c", LONG).await;
    let locks = world.locks();
    let retry = Retry::fixed(secs(1)).limit(3);
    let set = locks.lock_all(KEYS).wait(LONG).retry(retry);
    error_of(set.acquire().await, ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(3));
    world.release_elsewhere(&held).await;
    assert_all_free(&world, &locks).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_lost_during_the_wait_is_taken_again_with_those_after_it() {
    let world = World::new();
    let held = world.hold_elsewhere("c", LONG).await;
    let acquiring = waiting(&world.locks());
    sleep(secs(5)).await;
    world.release_by_force("b").await;
    let thief = world.hold_elsewhere("b", LONG).await;
    sleep(secs(10)).await;
    assert!(world.is_locked("a").await, "it is kept");
    world.release_elsewhere(&held).await;
    sleep(secs(100)).await;
    assert!(!world.is_locked("c").await, "`b` is waited for first");
    world.release_elsewhere(&thief).await;
    let guard = acquiring.await.unwrap().unwrap();
    let fences = KEYS.map(|text| guard.fence(text).unwrap().number());
    assert_eq!(fences, [1, 3, 2]);
}

#[tokio::test(start_paused = true)]
async fn keys_after_a_lost_one_are_released_while_it_is_waited_for_again() {
    let world = World::new();
    let _held = world.hold_elsewhere("c", LONG).await;
    let locks = world.locks();
    let acquiring = tokio::spawn(locks.lock_all(KEYS).wait(secs(60)).acquire());
    sleep(secs(5)).await;
    world.release_by_force("a").await;
    world.hold_elsewhere("a", LONG).await;
    sleep(secs(10)).await;
    assert!(!world.is_locked("b").await, "no key is held while a lesser one is waited for");
    let error = error_of(acquiring.await.unwrap(), ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(60));
    assert_eq!(error.key(), Some(key("a").display_hash()));
}

/// Lets the lease of `a` end at the moment when `b` is granted, before anyone has noticed.
fn suspended_before_the_last_grant(world: &World) -> (LockAllBuilder, JoinHandle<()>) {
    world.store.delay(Operation::Acquire, millis(9_500));
    let clock = world.clock.clone();
    let suspension = tokio::spawn(async move {
        sleep(millis(18_900)).await;
        // Past the deadline of `a`, 57 s after 0 s, and not past that of `b`, 57 s after 9.5 s.
        // Timers stand still.
        clock.suspend(secs(40));
    });
    let set = world.locks().lock_all(["a", "b"]).renew(Renew::Every(secs(20)));
    (set.ttl(secs(60)).wait(LONG), suspension)
}

#[tokio::test(start_paused = true)]
async fn a_guard_is_not_returned_if_a_key_was_lost_unnoticed_before_the_last_grant() {
    let world = World::new();
    let (set, suspension) = suspended_before_the_last_grant(&world);
    let guard = set.acquire().await.unwrap();
    suspension.await.unwrap();
    assert!(guard.is_valid());
    assert_eq!(guard.fence("a").unwrap().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_fails_if_a_key_was_lost_unnoticed_before_the_last_grant() {
    let world = World::new();
    let (set, suspension) = suspended_before_the_last_grant(&world);
    let error = error_of(set.try_acquire().await, ErrorKind::AcquisitionTimeout);
    suspension.await.unwrap();
    assert_eq!(error.key(), Some(key("a").display_hash()));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_loses_a_key_before_the_last_grant_fails_and_leaves_no_key() {
    let world = World::new();
    world.store.delay(Operation::Acquire, secs(20));
    world.plan(Operation::Extend, &Fault::RequestLost, ALL);
    let locks = world.builder().request_timeout(secs(60)).build();
    let attempt = locks.lock_all(KEYS).ttl(secs(30)).try_acquire().await;
    let error = error_of(attempt, ErrorKind::AcquisitionTimeout);
    assert_eq!(error.key(), Some(key("a").display_hash()));
    assert!(error.to_string().contains("lost before the last key was granted"), "{error}");
    assert!(error.is_retryable());
    assert!(world.faults.planned() < ALL, "renewals failed");
    assert_at(world.clock.elapsed(), millis(28_500));
    assert_all_free(&world, &locks).await;
}

/// Polls a future at most so often. Returns its output, or drops it and returns `None`.
async fn polled<F: Future>(future: Pin<&mut F>, polls: usize) -> Option<F::Output> {
    let (mut future, mut left) = (future, polls);
    poll_fn(|context| {
        let Some(rest) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = rest;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Drops a call before its first poll, after its first poll, and so on until it completes, and
/// asserts each time that it leaves no key. Returns after how many polls it completed.
async fn drop_after_each_poll<T>(call: impl AsyncFn(LockManager) -> T) -> usize {
    for polls in 0.. {
        let world = World::new();
        for operation in [Operation::Acquire, Operation::Extend, Operation::Release] {
            world.store.delay(operation, millis(40));
        }
        let (locks, held) = (world.locks(), world.hold_elsewhere("b", LONG).await);
        let others = world.others.clone();
        tokio::spawn(async move {
            sleep(millis(900)).await;
            others.release(&held).await.unwrap()
        });
        let output = {
            let mut call = Box::pin(call(locks.clone()));
            polled(call.as_mut(), polls).await
        };
        let completed = output.is_some();
        drop(output);
        sleep(secs(1)).await;
        assert_all_free(&world, &locks).await;
        if completed {
            return polls;
        }
    }
    unreachable!("the call completes")
}

/// Renews at intervals that are shorter than the wait, so that the call is also dropped while
/// renewals are in flight.
fn quick(locks: &LockManager) -> LockAllBuilder {
    locks.lock_all(KEYS).ttl(millis(600)).renew(Renew::Every(millis(200))).wait(LONG)
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_dropped_at_any_await_leaves_no_key() {
    let polls = drop_after_each_poll(async |locks| quick(&locks).acquire().await.unwrap()).await;
    assert!(polls > 10, "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_at_any_await_leaves_no_key() {
    let polls = drop_after_each_poll(async |locks| {
        let attempt = quick(&locks).try_acquire().await.unwrap();
        assert!(matches!(attempt, TryAcquireAllOutcome::Contended { .. }), "{attempt:?}");
    });
    // Two acquires and a release.
    assert_eq!(polls.await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_at_any_await_leaves_no_key() {
    let polls = drop_after_each_poll(async |locks| {
        quick(&locks).run(async |_| sleep(secs(2)).await).await.unwrap();
    });
    let polls = polls.await;
    assert!(polls > 10, "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_dropped_at_any_await_leaves_no_key() {
    let polls = drop_after_each_poll(async |locks| {
        quick(&locks).acquire().await.unwrap().release().await.unwrap();
    });
    let polls = polls.await;
    assert!(polls > 10, "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_left_unpolled_keeps_its_keys_no_longer_than_their_ttl() {
    let world = World::new();
    let _held = world.hold_elsewhere("c", LONG).await;
    let locks = world.locks();
    let mut call = pin!(set(&locks).acquire());
    assert!(polled(call.as_mut(), 1).await.is_none());
    assert!(world.is_locked("a").await && world.is_locked("b").await);
    let start = Instant::now();
    sleep_until(start + secs(31)).await;
    assert!(!world.is_locked("a").await && !world.is_locked("b").await);
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_for_several_keys_works() {
    let world = World::new();
    let held = world.hold_elsewhere("b", LONG).await;
    let locks = world.locks();
    let set = locks.lock_all(KEYS).wait(Duration::MAX).retry(Retry::fixed(Duration::MAX));
    let acquiring = tokio::spawn(set.acquire());
    sleep(secs(60)).await;
    world.release_elsewhere(&held).await;
    assert!(acquiring.await.unwrap().unwrap().is_valid());
}
