//! The times at which a lease is renewed.

use syncguard_core::{LockGuard, Operation, Renew};
use tokio::time::sleep;

use super::{
    World, drained,
    time::{assert_all_at, secs},
};

/// Acquires a lock for 30 s.
async fn renewed(world: &World, renew: Renew) -> LockGuard {
    world.locks().lock("k").ttl(secs(30)).renew(renew).acquire().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn renewals_are_sent_every_third_of_the_ttl() {
    let world = World::new();
    let guard = renewed(&world, Renew::Auto).await;
    sleep(secs(65)).await;
    assert_all_at(&world.sent(Operation::Extend), &[10, 20, 30, 40, 50, 60].map(secs));
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn renewals_request_the_ttl_of_their_lock_until_an_extend_sets_another() {
    let world = World::new();
    let guard = world.locks().lock("k").ttl(secs(90)).renew(Renew::Auto).acquire().await.unwrap();
    sleep(secs(65)).await;
    assert_all_at(&world.sent(Operation::Extend), &[30, 60].map(secs));
    guard.extend(secs(15)).await.unwrap();
    sleep(secs(12)).await;
    assert_all_at(&world.sent(Operation::Extend)[3..], &[65, 70, 75].map(secs));
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
    let guard = renewed(&world, Renew::Auto).await;
    sleep(secs(45)).await;
    assert_all_at(&world.sent(Operation::Extend), &[10, 20, 30, 40].map(secs));
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn at_most_one_extend_is_in_flight_at_a_time() {
    let world = World::new();
    world.store.delay(Operation::Extend, secs(4));
    let guard = renewed(&world, Renew::Auto).await;
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
    let guard = renewed(&world, Renew::Auto).await;
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
    locks.lock("k").ttl(secs(30)).run(async |_| sleep(secs(25)).await).await.unwrap();
    drained(&locks).await;
    assert!(!world.is_locked("k").await);
    sleep(secs(600)).await;
    assert_all_at(&world.sent(Operation::Extend), &[10, 20].map(secs));
}
