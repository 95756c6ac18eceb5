//! Wake-ups by releases of the same process, if the store notifies no waiters.

use syncguard_core::{ErrorKind, LockGuard, LockManager, Operation, Retry, contract::Fault};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    LONG, World, error_of,
    time::{assert_at, secs},
};

/// A lock that is held, and a waiter that is woken neither by the store nor by its schedule.
struct Waiting {
    world: World,
    locks: LockManager,
    guard: LockGuard,
    waiter: JoinHandle<LockGuard>,
}

impl Waiting {
    async fn new() -> Self {
        let world = World::new();
        let locks = LockManager::builder(world.store.clone().without_wake_ups())
            .clock(world.clock.shared());
        let locks = locks.build();
        let guard = locks.lock("k").ttl(LONG).acquire().await.unwrap();
        let lock = locks.lock("k").wait(LONG).retry(Retry::fixed(LONG));
        let waiter = tokio::spawn(async move { lock.acquire().await.unwrap() });
        sleep(secs(5)).await;
        assert!(!waiter.is_finished());
        Self { world, locks, guard, waiter }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_wakes_the_next_waiter_of_the_process() {
    let Waiting { world, guard, waiter, .. } = Waiting::new().await;
    guard.release().await.unwrap();
    let _next = waiter.await.unwrap();
    assert_at(world.clock.elapsed(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_release_in_the_background_wakes_the_next_waiter_of_the_process() {
    let Waiting { world, guard, waiter, .. } = Waiting::new().await;
    drop(guard);
    let _next = waiter.await.unwrap();
    assert_at(world.clock.elapsed(), secs(5));
}

/// The reply to the release is lost, so the clean-up ends the grant.
#[tokio::test(start_paused = true)]
async fn a_release_that_is_repeated_in_the_background_wakes_the_next_waiter_of_the_process() {
    let Waiting { world, guard, waiter, .. } = Waiting::new().await;
    world.plan(Operation::Release, &Fault::RequestLost, 1);
    guard.release().await.unwrap_err();
    let _next = waiter.await.unwrap();
    world.assert_planned(0);
    assert_at(world.clock.elapsed(), secs(5));
}

/// The only reply to the acquire is lost, so the abandon ends the grant.
#[tokio::test(start_paused = true)]
async fn an_abandon_in_the_background_wakes_the_next_waiter_of_the_process() {
    let Waiting { world, locks, guard, waiter } = Waiting::new().await;
    world.plan(Operation::Acquire, &Fault::ReplyLost, 1);
    world.plan(Operation::Acquire, &Fault::NotSent, 1);
    world.store.delay(Operation::Abandon, secs(1));
    // Faster than the waiter, which the release wakes.
    let lock = locks.lock("k").ttl(LONG);
    let (released, attempt) = tokio::join!(guard.release(), lock.try_acquire());
    released.unwrap();
    error_of(attempt, ErrorKind::Ambiguous);
    let _next = waiter.await.unwrap();
    world.assert_planned(0);
    assert_at(world.clock.elapsed(), secs(6));
}

/// A forced release may have applied although its reply was lost.
#[tokio::test(start_paused = true)]
async fn a_forced_release_without_a_reply_wakes_the_next_waiter_of_the_process() {
    let Waiting { world, locks, guard: _guard, waiter } = Waiting::new().await;
    world.plan(Operation::ForceRelease, &Fault::ReplyLost, 1);
    locks.force_release("k").await.unwrap_err();
    let _next = waiter.await.unwrap();
    world.assert_planned(0);
    assert_at(world.clock.elapsed(), secs(5));
}
