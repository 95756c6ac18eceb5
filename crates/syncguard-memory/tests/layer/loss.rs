//! When a lease is lost.

use std::time::Duration;

use syncguard_core::{
    ErrorKind, LockGuard, LockManager, Loss, Operation, Renew,
    contract::{Fault, Gate},
};
use syncguard_memory::MemoryBackend;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    World, error_of,
    time::{VirtualClock, assert_all_at, assert_at, millis, secs},
};

/// The time from sending a request for 30 s to the deadline: 5 % less.
const LEASE: Duration = millis(28_500);

/// More requests than any test sends.
const ALL: usize = 1_000;

async fn held(world: &World, ttl: Duration, renew: Renew) -> LockGuard {
    world.locks().lock("k").ttl(ttl).renew(renew).acquire().await.unwrap()
}

/// Asserts that the lock is lost at this time and not before.
async fn assert_lost_at(world: &World, guard: &LockGuard, due: Duration) {
    let start = Instant::now() - world.clock.elapsed();
    sleep_until(start + due - millis(1)).await;
    assert!(guard.is_valid() && guard.fence().is_ok() && !guard.remaining().is_zero());
    guard.lost().await;
    assert_at(world.clock.elapsed(), due);
    assert!(!guard.is_valid() && guard.fence().is_err() && guard.remaining().is_zero());
    assert_eq!(guard.loss(), Some(Loss::Expired));
}

#[tokio::test(start_paused = true)]
async fn an_unrenewed_lease_is_lost_a_margin_before_its_ttl_is_over() {
    for (ttl, due) in [(30_000, 28_500), (1_000, 950), (400, 350), (60, 30)] {
        let world = World::new();
        let guard = held(&world, millis(ttl), Renew::Never).await;
        assert_lost_at(&world, &guard, millis(due)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_the_end_of_a_lease_is_woken_immediately() {
    let world = World::new();
    let guard = held(&world, secs(30), Renew::Never).await;
    let lease = guard.lease();
    let waiting = tokio::spawn(async move {
        lease.lost().await;
        Instant::now()
    });
    // Gives the task time to start waiting.
    sleep_until(Instant::now() + millis(10)).await;
    guard.release().await.unwrap();
    let released = Instant::now();
    assert_eq!(waiting.await.unwrap(), released, "it does not wait for its timer");
}

#[tokio::test(start_paused = true)]
async fn a_lease_counts_from_before_its_request_was_sent() {
    let world = World::new();
    world.store.delay(Operation::Acquire, secs(4));
    let guard = held(&world, secs(30), Renew::Never).await;
    assert_at(world.clock.elapsed(), secs(4));
    assert_lost_at(&world, &guard, LEASE).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_counts_from_before_its_last_renewal_was_sent() {
    let world = World::new();
    world.store.delay(Operation::Extend, secs(4));
    let guard = held(&world, secs(30), Renew::Every(secs(25))).await;
    assert_lost_at(&world, &guard, secs(25) + LEASE - secs(25)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_renewals_all_fail_is_lost_at_its_deadline() {
    for fault in [Fault::NotSent, Fault::RequestLost, Fault::ReplyLost] {
        let world = World::new();
        world.plan(Operation::Extend, &fault, ALL);
        let guard = held(&world, secs(30), Renew::Auto).await;
        assert_lost_at(&world, &guard, LEASE).await;
        let sent = world.sent(Operation::Extend);
        assert!(sent.len() > 10, "{fault:?}: retried until the deadline");
        world.assert_planned(ALL - sent.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_later_renewals_fail_is_lost_one_lease_after_the_last_success() {
    let world = World::new();
    let guard = held(&world, secs(30), Renew::Every(secs(10))).await;
    sleep_until(Instant::now() + secs(45)).await;
    world.plan(Operation::Extend, &Fault::RequestLost, ALL);
    assert_lost_at(&world, &guard, secs(40) + LEASE).await;
    let sent = world.sent(Operation::Extend);
    assert_all_at(&sent[..5], &[10, 20, 30, 40, 50].map(secs));
    world.assert_planned(ALL - (sent.len() - 4));
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_renewals_hang_is_lost_at_its_deadline() {
    let (world, gate) = (World::new(), Gate::new());
    world.plan(Operation::Extend, &Fault::ReplyDelayed(gate.clone()), ALL);
    let guard = held(&world, secs(30), Renew::Auto).await;
    assert_lost_at(&world, &guard, LEASE).await;
    gate.reached().await;
    let sent = world.sent(Operation::Extend).len();
    assert!(sent > 2, "a renewal that hangs is cancelled and retried: {sent}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_succeeds_in_time_after_many_failures_keeps_the_lease() {
    let world = World::new();
    world.plan(Operation::Extend, &Fault::RequestLost, ALL);
    let guard = held(&world, secs(30), Renew::Auto).await;
    sleep_until(Instant::now() + secs(28)).await;
    assert!(world.faults.planned() < ALL, "renewals failed");
    world.faults.heal();
    sleep_until(Instant::now() + secs(60)).await;
    assert!(guard.is_valid());
}

/// After the jump, the grants of the store end sooner than their holders expect. The next reply of
/// the store shows this.
#[tokio::test(start_paused = true)]
async fn a_lease_is_lost_sooner_by_the_jump_of_the_stores_clock() {
    let (clock, stores_clock) = (VirtualClock::new(), VirtualClock::new());
    let store = MemoryBackend::with_clock(stores_clock.shared());
    let locks = LockManager::builder(store).clock(clock.shared()).build();
    let guard = locks.lock("k").ttl(secs(30)).acquire().await.unwrap();
    stores_clock.suspend(secs(20));
    assert_eq!(guard.remaining(), LEASE);
    let _other = locks.lock("other").ttl(secs(30)).acquire().await.unwrap();
    assert_eq!(guard.remaining(), LEASE - secs(20));
    guard.lost().await;
    assert_at(clock.elapsed(), LEASE - secs(20));
    assert_eq!(guard.loss(), Some(Loss::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_a_loss_is_woken_by_the_reply_that_shows_a_jump() {
    let (clock, stores_clock) = (VirtualClock::new(), VirtualClock::new());
    let store = MemoryBackend::with_clock(stores_clock.shared());
    let locks = LockManager::builder(store).clock(clock.shared()).build();
    let guard = locks.lock("k").ttl(secs(30)).acquire().await.unwrap();
    let lease = guard.lease();
    let waiting = tokio::spawn(async move { lease.lost().await });
    sleep_until(Instant::now() + secs(5)).await;
    stores_clock.suspend(secs(100));
    let _other = locks.lock("other").ttl(secs(30)).acquire().await.unwrap();
    waiting.await.unwrap();
    assert_at(clock.elapsed(), secs(5));
}

/// Work that blocks its thread is not dropped when its scope is cancelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_result_of_work_that_outlasts_its_scope_is_not_returned() {
    let (world, token) = (World::new(), CancellationToken::new());
    let run = world.locks().child(token.clone()).lock("k").run(async |lease| {
        token.cancel();
        while lease.is_valid() {
            std::thread::yield_now();
        }
    });
    error_of(run.await, ErrorKind::Aborted);
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_at_the_deadline_of_its_lease() {
    /// Records when it is dropped.
    struct Work<'a>(&'a World, &'a mut Option<Duration>);
    impl Drop for Work<'_> {
        fn drop(&mut self) {
            *self.1 = Some(self.0.clock.elapsed());
        }
    }
    let (world, mut dropped) = (World::new(), None);
    world.plan(Operation::Extend, &Fault::RequestLost, ALL);
    let run = world.locks().lock("k").ttl(secs(30)).run(async |_| {
        let _work = Work(&world, &mut dropped);
        std::future::pending::<()>().await;
    });
    error_of(run.await, ErrorKind::Lost);
    assert_at(dropped.unwrap(), LEASE);
    assert!(world.faults.planned() < ALL, "renewals failed");
}
