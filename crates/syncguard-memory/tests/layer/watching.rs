//! Watching who holds a key.

use std::time::Duration;

use syncguard_core::{
    Error, ErrorKind, LockInfo, LockManager, LockWatch, Operation,
    contract::{Fault, Gate},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    LONG, World, error_of, key,
    time::{TICK, assert_at, millis, secs},
};

/// The shortest time between two lookups.
const MIN_INTERVAL: Duration = millis(50);

/// The longest first delay of the schedule, which starts again with each change.
const FIRST_DELAY: Duration = millis(100);

/// The longest time between two lookups.
const MAX_INTERVAL: Duration = secs(2);

/// More requests than any test sends.
const ALL: usize = 100_000;

async fn held(watch: &mut LockWatch) -> LockInfo {
    watch.changed().await.unwrap().expect("a holder")
}

async fn free(watch: &mut LockWatch) {
    assert_eq!(watch.changed().await.unwrap(), None);
}

/// Asserts that there is no change, and returns the number of lookups meanwhile.
async fn unchanged(world: &World, watch: &mut LockWatch, duration: Duration) -> usize {
    let before = world.sent(Operation::Lookup).len();
    let changed = timeout(duration, watch.changed()).await;
    assert!(changed.is_err(), "{changed:?}");
    world.sent(Operation::Lookup).len() - before
}

#[track_caller]
fn assert_within(world: &World, start: Duration, limit: Duration) {
    let waited = world.clock.elapsed() - start;
    assert!(waited <= limit + TICK, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_returns_the_current_state_first() {
    let world = World::new();
    let mut watch = world.locks().watch("k").unwrap();
    free(&mut watch).await;
    assert_at(world.clock.elapsed(), secs(0));

    let guard = world.locks().lock("k").owner("web-1").acquire().await.unwrap();
    let mut watch = world.locks().watch("k").unwrap();
    let holder = held(&mut watch).await;
    assert_at(world.clock.elapsed(), secs(0));
    assert_eq!(holder.fence, guard.fence().unwrap());
    assert_eq!(holder.owner.unwrap().as_str(), "web-1");
    assert!(holder.remaining > secs(29));
    error_of(world.locks().watch(""), ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn each_new_holder_is_returned_once_and_its_extends_are_not() {
    let world = World::new();
    let mut watch = world.locks().watch("k").unwrap();
    free(&mut watch).await;
    for _ in 0..5_u32 {
        let lock = world.hold_elsewhere("k", secs(30)).await;
        let start = world.clock.elapsed();
        held(&mut watch).await;
        assert_within(&world, start, MAX_INTERVAL);
        unchanged(&world, &mut watch, secs(20)).await;
        world.extend_elsewhere(&lock, secs(60)).await;
        unchanged(&world, &mut watch, secs(40)).await;
        world.release_elsewhere(&lock).await;
        free(&mut watch).await;
        unchanged(&world, &mut watch, secs(40)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_is_returned_as_soon_as_the_store_notifies_of_it() {
    let world = World::new();
    let lock = world.hold_elsewhere("k", LONG).await;
    let mut watch = world.locks().watch("k").unwrap();
    held(&mut watch).await;
    unchanged(&world, &mut watch, secs(600)).await;
    let release = async {
        world.release_elsewhere(&lock).await;
        world.clock.elapsed()
    };
    let ((), released) = tokio::join!(free(&mut watch), release);
    assert_within(&world, released, MIN_INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn without_wake_ups_a_release_is_returned_within_two_seconds() {
    let world = World::new();
    let store = world.store.clone().without_wake_ups();
    let locks = LockManager::builder(store).clock(world.clock.shared()).build();
    for held_for in [secs(600), millis(1_234), millis(20)] {
        let lock = world.hold_elsewhere("k", LONG).await;
        let mut watch = locks.watch("k").unwrap();
        held(&mut watch).await;
        unchanged(&world, &mut watch, held_for).await;
        world.release_elsewhere(&lock).await;
        let released = world.clock.elapsed();
        free(&mut watch).await;
        assert_within(&world, released, MAX_INTERVAL);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_holder_that_crashed_is_returned_when_its_grace_is_over() {
    // A poll may precede the end by less than the shortest interval.
    for _ in 0..8_u32 {
        let world = World::new();
        world.hold_elsewhere("k", secs(10)).await;
        let mut watch = world.locks().watch("k").unwrap();
        held(&mut watch).await;
        free(&mut watch).await;
        assert!(world.clock.elapsed() >= secs(11));
        assert_within(&world, secs(11), MIN_INTERVAL);
        assert_eq!(world.store.subscriptions(), 0, "of a free key");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_follows_the_leaders() {
    let world = World::new();
    let mut candidates = JoinSet::new();
    for name in ["one", "two", "three"] {
        let locks = world.locks();
        candidates.spawn(async move {
            locks.leader("k").owner(name).run(async |_| sleep(secs(45)).await).await.unwrap();
        });
    }
    let mut watch = world.locks().watch("k").unwrap();
    let (mut owners, mut fences) = (Vec::new(), Vec::new());
    while owners.len() < 3 {
        if let Some(leader) = watch.changed().await.unwrap() {
            owners.push(leader.owner.unwrap().as_str().to_owned());
            fences.push(leader.fence.number());
        }
    }
    owners.sort_unstable();
    assert_eq!(owners, ["one", "three", "two"]);
    assert_eq!(fences, [1, 2, 3]);
    free(&mut watch).await;
}

/// The first subscription begins with the call that follows the change.
#[tokio::test(start_paused = true)]
async fn a_release_before_the_first_subscription_is_not_missed() {
    let world = World::new();
    let mut watch = world.locks().watch("k").unwrap();
    free(&mut watch).await;
    for pause in [0, 20, 150].map(millis) {
        // Until the delays are long.
        unchanged(&world, &mut watch, secs(60)).await;
        let lock = world.hold_elsewhere("k", LONG).await;
        held(&mut watch).await;
        sleep(pause).await;
        world.release_elsewhere(&lock).await;
        let released = world.clock.elapsed();
        free(&mut watch).await;
        assert_within(&world, released, FIRST_DELAY);
    }
}

/// A spurious notification ends the subscription. The next one begins after the reply to the
/// lookup that follows.
#[tokio::test(start_paused = true)]
async fn a_release_after_a_spurious_notification_is_not_missed() {
    let (world, gate) = (World::new(), Gate::new());
    let lock = world.hold_elsewhere("k", LONG).await;
    world.store.resolve_immediately(10);
    let mut watch = world.locks().watch("k").unwrap();
    held(&mut watch).await;
    let release = async {
        while world.sent(Operation::Lookup).len() < 10 {
            sleep(millis(1)).await;
        }
        // The reply to the lookup that follows the last spurious notification.
        world.plan(Operation::Lookup, &Fault::ReplyDelayed(gate.clone()), 1);
        gate.reached().await;
        world.release_elsewhere(&lock).await;
        gate.open();
        world.clock.elapsed()
    };
    let ((), released) = tokio::join!(free(&mut watch), release);
    assert_within(&world, released, FIRST_DELAY);
    world.assert_planned(0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_reported_once_and_its_end_with_the_state() {
    for (fault, kind) in [
        (Fault::NotSent, ErrorKind::ServiceUnavailable),
        (Fault::RequestLost, ErrorKind::NetworkTimeout),
        (Fault::Refused, ErrorKind::AuthFailed),
    ] {
        let world = World::new();
        let _lock = world.hold_elsewhere("k", LONG).await;
        let mut watch = world.locks().watch("k").unwrap();
        let before = held(&mut watch).await;
        world.plan(Operation::Lookup, &fault, ALL);
        let error = error_of(watch.changed().await, kind);
        assert_eq!(error.operation(), Some(Operation::Lookup));
        assert_eq!(error.key(), Some(key("k").display_hash()));

        let lookups = unchanged(&world, &mut watch, secs(60)).await;
        assert!((30..=70).contains(&lookups), "{lookups}");
        world.faults.heal();
        let healed = world.clock.elapsed();
        let after = held(&mut watch).await;
        assert_eq!((after.lock_id, after.fence), (before.lock_id, before.fence));
        assert_within(&world, healed, MAX_INTERVAL);
        unchanged(&world, &mut watch, secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_without_a_reply_is_an_outage() {
    let world = World::new();
    world.store.delay(Operation::Lookup, LONG);
    let mut watch = world.builder().request_timeout(secs(3)).build().watch("k").unwrap();
    error_of(watch.changed().await, ErrorKind::NetworkTimeout);
    assert_at(world.clock.elapsed(), secs(3));
    world.store.delay(Operation::Lookup, secs(0));
    free(&mut watch).await;
}

#[tokio::test(start_paused = true)]
async fn without_changes_a_watch_sends_a_lookup_every_one_to_two_seconds() {
    let world = World::new();
    let mut watch = world.locks().watch("k").unwrap();
    free(&mut watch).await;
    let lookups = unchanged(&world, &mut watch, secs(600)).await;
    assert!((300..=610).contains(&lookups), "free: {lookups}");
    assert_eq!(world.store.subscriptions(), 0, "of a free key");

    let _lock = world.hold_elsewhere("k", LONG).await;
    held(&mut watch).await;
    let lookups = unchanged(&world, &mut watch, secs(600)).await;
    assert!((300..=610).contains(&lookups), "held: {lookups}");
}

#[tokio::test(start_paused = true)]
async fn spurious_notifications_do_not_make_a_watch_spin() {
    let world = World::new();
    world.store.resolve_immediately(ALL);
    let _lock = world.hold_elsewhere("k", LONG).await;
    let mut watch = world.locks().watch("k").unwrap();
    held(&mut watch).await;
    let lookups = unchanged(&world, &mut watch, secs(60)).await;
    // Rounded up to the resolution of the timers, each interval takes a little longer.
    assert!((1_150..=1_200).contains(&lookups), "{lookups}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_share_one_lookup_and_lose_no_change() {
    let world = World::new();
    world.store.delay(Operation::Lookup, secs(1));
    let lock = world.hold_elsewhere("k", LONG).await;
    let mut watch = world.locks().watch("k").unwrap();
    let first = loop {
        if let Ok(changed) = timeout(millis(10), watch.changed()).await {
            break changed;
        }
    };
    assert!(first.unwrap().is_some());
    assert_at(world.clock.elapsed(), secs(1));
    assert_eq!(world.sent(Operation::Lookup).len(), 1);

    for _ in 0..10_000_u32 {
        assert!(timeout(millis(3), watch.changed()).await.is_err(), "no change");
    }
    world.release_elsewhere(&lock).await;
    let change: Result<Option<LockInfo>, Error> = loop {
        if let Ok(changed) = timeout(millis(3), watch.changed()).await {
            break changed;
        }
    };
    assert_eq!(change.unwrap(), None);
    assert_eq!(world.store.max_in_flight(Operation::Lookup), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_dropped_leaves_no_subscription() {
    let world = World::new();
    let _lock = world.hold_elsewhere("k", LONG).await;
    let mut watch = world.locks().watch("k").unwrap();
    held(&mut watch).await;
    unchanged(&world, &mut watch, secs(10)).await;
    assert_eq!(world.store.subscriptions(), 1);
    drop(watch);
    assert_eq!(world.store.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_may_be_moved_to_another_task() {
    let world = World::new();
    let mut watch = world.locks().watch("k").unwrap();
    let watching = tokio::spawn(async move {
        free(&mut watch).await;
        held(&mut watch).await.fence.number()
    });
    sleep(secs(5)).await;
    world.locks().lock("k").acquire().await.unwrap().keep();
    assert_eq!(watching.await.unwrap(), 1);
}
