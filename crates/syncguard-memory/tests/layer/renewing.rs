//! The times at which a lease is renewed.

use std::time::Duration;

use syncguard_core::{LockGuard, Operation, Renew};
use tokio::time::sleep;

use super::{
    World, drained,
    time::{TICK, assert_all_at, millis, secs},
};

/// Acquires a lock for 30 s.
async fn renewed(world: &World, renew: Renew) -> LockGuard {
    world.locks().lock("k").ttl(secs(30)).renew(renew).acquire().await.unwrap()
}

/// Acquires a lock for 30 s that is renewed every 10 s.
async fn steadily_renewed(world: &World) -> LockGuard {
    renewed(world, Renew::Every(secs(10))).await
}

/// Asserts that renewals of a ttl are sent a quarter to a third of it apart.
#[track_caller]
fn assert_intervals(sent: &[Duration], ttl: Duration) {
    for pair in sent.windows(2) {
        let interval = pair[1] - pair[0];
        assert!(ttl / 4 <= interval + TICK && interval <= ttl / 3 + TICK, "{interval:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn renewals_are_sent_after_a_quarter_to_a_third_of_the_ttl() {
    for _ in 0..16 {
        let world = World::new();
        let guard = renewed(&world, Renew::Auto).await;
        sleep(secs(120)).await;
        let sent = world.sent(Operation::Extend);
        assert!(millis(2_500) <= sent[0] && sent[0] <= secs(10) + TICK, "{:?}", sent[0]);
        assert_intervals(&sent, secs(30));
        assert!(guard.is_valid());
    }
}

/// Without jitter, all of them are renewed in the same second of ten.
#[tokio::test(start_paused = true)]
async fn the_renewals_of_locks_that_were_acquired_together_are_spread_over_the_whole_time() {
    const GUARDS: usize = 2_000;
    let world = World::new();
    let locks = world.locks();
    let mut guards = Vec::new();
    for number in 0..GUARDS {
        let lock = locks.lock(format!("k{number}")).ttl(secs(30)).renew(Renew::Auto);
        guards.push(lock.acquire().await.unwrap());
    }
    assert_eq!(world.clock.elapsed(), secs(0), "they were acquired together");
    sleep(secs(120)).await;
    let mut by_second = [0; 121];
    for sent in world.sent(Operation::Extend) {
        by_second[sent.as_secs() as usize] += 1;
    }
    let mean = by_second.iter().sum::<usize>() / by_second.len();
    let max = *by_second.iter().max().unwrap();
    assert!(max <= 2 * mean, "{max} in a second, {mean} on average: {by_second:?}");
}

#[tokio::test(start_paused = true)]
async fn renewals_request_the_ttl_of_their_lock_until_an_extend_sets_another() {
    let world = World::new();
    let guard = world.locks().lock("k").ttl(secs(90)).renew(Renew::Auto).acquire().await.unwrap();
    sleep(secs(65)).await;
    let sent = world.sent(Operation::Extend);
    assert_intervals(&sent, secs(90));
    guard.extend(secs(15)).await.unwrap();
    sleep(secs(120)).await;
    // The renewal that the ttl of 90 s would have delayed is sent at once.
    assert_intervals(&world.sent(Operation::Extend)[sent.len() + 1..], secs(15));
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn renewals_are_sent_at_the_configured_interval() {
    let world = World::new();
    let guard = renewed(&world, Renew::Every(secs(25))).await;
    sleep(secs(80)).await;
    assert_all_at(&world.sent(Operation::Extend), &[25, 50, 75].map(secs));
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_does_not_delay_the_next_renewal() {
    let world = World::new();
    world.store.delay(Operation::Extend, secs(4));
    let guard = steadily_renewed(&world).await;
    sleep(secs(45)).await;
    assert_all_at(&world.sent(Operation::Extend), &[10, 20, 30, 40].map(secs));
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn at_most_one_extend_is_in_flight_at_a_time() {
    let world = World::new();
    world.store.delay(Operation::Extend, secs(4));
    let guard = steadily_renewed(&world).await;
    let callers = (0..3).map(|_| {
        let lease = guard.lease();
        tokio::spawn(async move {
            for _ in 0..5 {
                lease.extend(secs(60)).await.unwrap();
                sleep(secs(1)).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert!(world.sent(Operation::Extend).len() > 15, "renewals and callers met");
    assert_eq!(world.store.max_in_flight(Operation::Extend), 1);
    assert!(guard.is_valid());
}

/// Ends a hold while a renewal is in flight, and returns how many renewals were sent before and
/// after that.
async fn renewals_around(end: impl AsyncFnOnce(LockGuard)) -> (usize, usize) {
    let world = World::new();
    world.store.delay(Operation::Extend, secs(4));
    let guard = steadily_renewed(&world).await;
    sleep(secs(21)).await;
    let before = world.sent(Operation::Extend).len();
    end(guard).await;
    sleep(secs(600)).await;
    (before, world.sent(Operation::Extend).len() - before)
}

#[tokio::test(start_paused = true)]
async fn no_renewal_follows_a_release() {
    let release = async |guard: LockGuard| {
        guard.release().await.unwrap();
    };
    assert_eq!(renewals_around(release).await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn no_renewal_follows_a_drop() {
    assert_eq!(renewals_around(async |guard| drop(guard)).await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_kept_is_no_longer_renewed() {
    assert_eq!(renewals_around(async |guard: LockGuard| guard.keep()).await, (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_kept_is_held_until_its_ttl_is_over() {
    let world = World::new();
    renewed(&world, Renew::Never).await.keep();
    sleep(secs(30)).await;
    assert!(world.is_locked("k").await, "within the grace");
    assert!(world.sent(Operation::Release).is_empty());
    sleep(secs(1)).await;
    assert!(!world.is_locked("k").await);
}

#[tokio::test(start_paused = true)]
async fn no_renewal_follows_the_work() {
    let world = World::new();
    let locks = world.locks();
    let lock = locks.lock("k").ttl(secs(30)).renew(Renew::Every(secs(10)));
    lock.run(async |_| sleep(secs(25)).await).await.unwrap();
    drained(&locks).await;
    assert!(!world.is_locked("k").await);
    sleep(secs(600)).await;
    assert_all_at(&world.sent(Operation::Extend), &[10, 20].map(secs));
}
