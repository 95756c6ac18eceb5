//! A machine that sleeps: the boot clock advances, and timers do not.

use std::{future::poll_fn, pin::pin, time::Duration};

use syncguard_core::{Clock, ErrorKind, LockGuard, Loss, Renew};
use tokio::time::{sleep, timeout};

use super::{
    World, drained, error_of,
    time::{TICK, secs},
};

/// How long after waking, at most, a loss is reported to a task that only waits for it.
const MAX_NOTICE_DELAY: Duration = secs(1);

/// Suspends the machine, and asserts that only the boot clock has advanced.
fn suspend(world: &World, duration: Duration) {
    let (timers, boot) = (world.clock.elapsed(), world.clock.now());
    world.clock.suspend(duration);
    assert_eq!(world.clock.elapsed(), timers);
    assert_eq!(world.clock.now().since(boot), duration);
}

async fn held(world: &World, renew: Renew) -> LockGuard {
    let guard = world.locks().lock("k").ttl(secs(600)).renew(renew).acquire().await.unwrap();
    // Not at the start of the lease.
    sleep(secs(7)).await;
    assert!(guard.is_valid());
    guard
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_past_its_deadline_a_lease_is_not_valid_at_the_first_check() {
    for renew in [Renew::Never, Renew::Auto] {
        let world = World::new();
        let guard = held(&world, renew).await;
        suspend(&world, secs(3_600));
        assert!(!guard.is_valid());
        assert_eq!((guard.remaining(), guard.loss()), (Duration::ZERO, Some(Loss::Expired)));
        error_of(guard.fence(), ErrorKind::Lost);
        error_of(guard.extend(secs(600)).await, ErrorKind::Lost);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_short_of_its_deadline_a_lease_is_valid() {
    let world = World::new();
    let guard = held(&world, Renew::Never).await;
    suspend(&world, secs(500));
    assert!(guard.is_valid());
    assert!(guard.remaining() <= secs(600 - 507), "{:?}", guard.remaining());
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_past_its_deadline_a_loss_is_reported_within_a_second() {
    let world = World::new();
    let guard = held(&world, Renew::Never).await;
    let lease = guard.lease();
    let loss = tokio::spawn(async move { lease.lost().await });
    sleep(secs(1)).await;
    assert!(!loss.is_finished());
    suspend(&world, secs(3_600));
    let woken = world.clock.elapsed();
    loss.await.unwrap();
    assert!(world.clock.elapsed() - woken <= MAX_NOTICE_DELAY + TICK);
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_past_its_deadline_work_is_dropped_within_a_second() {
    let world = World::new();
    let locks = world.locks();
    let work = locks.lock("k").ttl(secs(600)).run(async |_| std::future::pending::<()>().await);
    let nap = async {
        sleep(secs(7)).await;
        suspend(&world, secs(3_600));
        world.clock.elapsed()
    };
    let (run, woken) = tokio::join!(work, nap);
    error_of(run, ErrorKind::Lost);
    assert!(world.clock.elapsed() - woken <= MAX_NOTICE_DELAY + TICK);
    drained(&locks).await;
}

#[tokio::test(start_paused = true)]
async fn max_hold_counts_the_time_asleep() {
    let world = World::new();
    let lock = world.locks().lock("k").ttl(secs(600)).max_hold(secs(60));
    let guard = lock.acquire().await.unwrap();
    sleep(secs(7)).await;
    assert!(guard.is_valid());
    suspend(&world, secs(120));
    assert!(!guard.is_valid());
    assert_eq!(guard.loss(), Some(Loss::MaxHold));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_became_due_during_sleep_is_sent_after_waking() {
    let world = World::new();
    let lock = world.locks().lock("k").ttl(secs(30)).renew(Renew::Every(secs(10)));
    let guard = lock.acquire().await.unwrap();
    sleep(secs(11)).await;
    suspend(&world, secs(25));
    assert!(guard.is_valid(), "the last renewal is 26 s old");
    sleep(secs(60)).await;
    assert!(guard.is_valid(), "{:?}", guard.loss());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_a_loss_is_not_woken_while_the_clocks_agree() {
    let world = World::new();
    let guard = held(&world, Renew::Never).await;
    let mut polls = 0;
    let mut lost = pin!(guard.lost());
    let counted = poll_fn(|context| {
        polls += 1;
        lost.as_mut().poll(context)
    });
    assert!(timeout(secs(590 - 30 - 7 - 1), counted).await.is_err());
    assert!(polls <= 2, "{polls} polls");
}
