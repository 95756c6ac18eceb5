//! Several keys under one guard: their order, their joint lease, and its end.

use std::{error::Error as _, time::Duration};

use syncguard_core::{
    Error, ErrorKind, LockAllBuilder, LockAllGuard, LockKey, LockManager, Loss, Operation,
    ReleaseOutcome, Renew, RunOutcome, TryAcquireAllOutcome, backend::NotHeld, contract::Fault,
};
use syncguard_testkit::traced::Trace;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    LONG, World, drained, error_of, key, open_gate,
    time::{TICK, assert_all_at, assert_at, millis, secs},
};

/// The time from sending a request for 30 s to the deadline: 5 % less.
const LEASE: Duration = millis(28_500);

async fn held(world: &World, keys: &[&str]) -> LockAllGuard {
    world.locks().lock_all(keys.iter().copied()).wait(LONG).acquire().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn keys_are_held_in_the_order_of_their_bytes_and_each_once() {
    let world = World::new();
    // The last two are in the opposite order in UTF-16, and the accent in the opposite one if it is
    // not composed first.
    let given = ["\u{10437}", "e\u{301}", "b", "a", "\u{ff5e}", "b", "f", "Z", "\u{e9}"];
    let guard = held(&world, &given).await;
    let held: Vec<_> = guard.keys().map(LockKey::as_str).collect();
    assert_eq!(held, ["Z", "a", "b", "f", "\u{e9}", "\u{ff5e}", "\u{10437}"]);
    assert_eq!(world.sent(Operation::Acquire).len(), 7);
    assert_eq!(guard.fence("e\u{301}").unwrap(), guard.fence("\u{e9}").unwrap());
}

#[tokio::test(start_paused = true)]
async fn keys_are_acquired_in_their_order() {
    for held_elsewhere in ["a", "b", "c"] {
        let world = World::new();
        let other = world.hold_elsewhere(held_elsewhere, LONG).await;
        let locks = world.locks();
        let set = tokio::spawn(locks.lock_all(["c", "a", "b"]).wait(LONG).acquire());
        sleep(secs(1)).await;
        for text in ["a", "b", "c"] {
            let taken = text <= held_elsewhere;
            assert_eq!(world.is_locked(text).await, taken, "{text} before {held_elsewhere}");
        }
        world.release_elsewhere(&other).await;
        let _guard = set.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_of_free_keys_costs_one_acquire_for_each_and_is_renewed_only_if_asked() {
    let world = World::new();
    world.store.delay(Operation::Acquire, millis(10));
    let guard = held(&world, &["a", "b", "c"]).await;
    assert_all_at(&world.sent(Operation::Acquire), &[0, 10, 20].map(millis));
    sleep(secs(20)).await;
    assert!(world.sent(Operation::Extend).is_empty() && guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn an_invalid_set_is_rejected_before_anything_is_sent() {
    let world = World::new();
    let locks = world.locks();
    let many: Vec<_> = (0..=LockAllBuilder::MAX_KEYS).map(|number| number.to_string()).collect();
    let none: [&str; 0] = [];
    for (set, rule) in [
        (locks.lock_all(none), "it must have 1 to 256 keys"),
        (locks.lock_all(&many), "more than 256 different keys"),
        (locks.lock_all(["a", ""]), "1 to 512 bytes"),
        (locks.lock_all(["a", "b"]).ttl("soon"), "ttl"),
        (locks.lock_all(["a", "b"]).ttl(secs(1)).min_hold(secs(2)), "min_hold"),
    ] {
        let error = error_of(set.acquire().await, ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(rule), "{error}");
    }
    error_of(locks.lock_all(none).try_run(async |_| ()).await, ErrorKind::InvalidArgument);
    assert!(world.sent(Operation::Acquire).is_empty());
    let most = many[1..].iter().chain(&many[1..]);
    assert_eq!(locks.lock_all(most).acquire().await.unwrap().keys().len(), 256);
}

/// Moves something back and forth under two keys.
async fn acquire_often(locks: LockManager, keys: [&'static str; 3]) {
    for _ in 0..20 {
        let guard = locks.lock_all(keys).wait(secs(600)).acquire().await.unwrap();
        sleep(millis(5)).await;
        guard.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn calls_with_opposite_orders_do_not_wait_for_each_other_for_ever() {
    let world = World::new();
    world.store.delay(Operation::Acquire, millis(3));
    let mut tasks = JoinSet::new();
    for keys in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"], ["c", "a", "b"]] {
        // One process with two tasks, and another process for each order.
        let shared = world.locks();
        tasks.spawn(acquire_often(shared.clone(), keys));
        tasks.spawn(acquire_often(shared, keys));
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert!(world.clock.elapsed() < secs(300), "{:?}", world.clock.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_contended_attempt_releases_what_it_took_and_names_the_key_and_its_holder() {
    let world = World::new();
    let locks = world.locks();
    let other = world.builder().build();
    let _held = other.lock("b").owner("ci-7").acquire().await.unwrap();
    world.store.delay(Operation::Release, secs(1));
    let attempt = locks.lock_all(["c", "b", "a"]).try_acquire().await.unwrap();
    let TryAcquireAllOutcome::Contended { key: contended, holder } = attempt else {
        panic!("{attempt:?}")
    };
    assert_eq!(contended, key("b"));
    assert_eq!(holder.unwrap().owner.unwrap().as_str(), "ci-7");
    assert!(!world.is_locked("a").await, "released before the call returned");
    assert_eq!(world.sent(Operation::Acquire).len(), 3, "`c` was not requested");

    let skipped = locks.lock_all(["a", "b"]).try_run(async |_| ()).await.unwrap();
    let RunOutcome::Skipped(Some(holder)) = skipped else { panic!("{skipped:?}") };
    assert_eq!(holder.owner.unwrap().as_str(), "ci-7");

    let error = locks.lock_all(["a", "b"]).wait(Duration::ZERO).acquire().await;
    let error = error_of(error, ErrorKind::AcquisitionTimeout);
    assert_eq!(error.key(), Some(key("b").display_hash()));
    assert_eq!(error.holder().unwrap().owner.as_ref().unwrap().as_str(), "ci-7");
    assert!(!world.is_locked("a").await);
}

#[tokio::test(start_paused = true)]
async fn an_error_for_a_later_key_leaves_no_key_locked() {
    let world = World::new();
    let locks = world.locks();
    for wait in [Duration::ZERO, secs(5)] {
        // The refused request is the third to reach the store.
        world.store.delay(Operation::Acquire, millis(10));
        let set = tokio::spawn(locks.lock_all(["a", "b", "c"]).wait(wait).acquire());
        sleep(millis(25)).await;
        world.plan(Operation::Acquire, &Fault::Refused, 1);
        let error = error_of(set.await.unwrap(), ErrorKind::AuthFailed);
        assert_eq!(error.key(), Some(key("c").display_hash()));
        drained(&locks).await;
        for text in ["a", "b", "c"] {
            assert!(!world.is_locked(text).await, "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_fence_and_a_key_of_no_grant_is_a_typed_error() {
    let world = World::new();
    for _ in 0..4 {
        world.release_elsewhere(&world.hold_elsewhere("b", secs(1)).await).await;
    }
    let guard = held(&world, &["b", "a"]).await;
    assert_eq!(guard.fence("a").unwrap().number(), 1);
    assert_eq!(guard.fence(key("b")).unwrap().number(), 5);
    assert_eq!(guard.lease_of("b").unwrap().key(), &key("b"));
    let error = error_of(guard.fence("c"), ErrorKind::InvalidArgument);
    assert_eq!(error.key(), Some(key("c").display_hash()));
    assert!(error.to_string().contains("none of the 2 keys"), "{error}");
    error_of(guard.fence(""), ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_set_is_the_earliest_of_its_keys() {
    let world = World::new();
    // Too short for a renewal of the first key.
    world.store.delay(Operation::Acquire, millis(500));
    let guard = held(&world, &["a", "b", "c"]).await;
    assert_at(world.clock.elapsed(), millis(1_500));
    assert_eq!(guard.remaining(), guard.lease_of("a").unwrap().remaining());
    assert!(guard.remaining() < guard.lease_of("b").unwrap().remaining());
    assert_eq!(guard.expires_at(), guard.lease_of("a").unwrap().expires_at());
    assert!(guard.expires_at() < guard.lease_of("b").unwrap().expires_at());
    guard.lost().await;
    assert_at(world.clock.elapsed(), LEASE);
    assert_eq!(guard.loss(), Some((&key("a"), Loss::Expired)));
    assert!(!guard.is_valid() && guard.remaining().is_zero());
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_one_key_ends_the_hold_of_all() {
    for lost in ["a", "b", "c"] {
        let world = World::new();
        let guard = held(&world, &["a", "b", "c"]).await;
        let lease = guard.lease();
        let waiting = tokio::spawn(async move { lease.lost().await });
        world.release_by_force(lost).await;
        sleep(secs(1)).await;
        assert!(guard.is_valid() && !waiting.is_finished(), "no one has noticed yet");

        let error = error_of(guard.extend(secs(60)).await, ErrorKind::Lost);
        assert_eq!(error.key(), Some(key(lost).display_hash()));
        waiting.await.unwrap();
        assert_eq!(guard.loss(), Some((&key(lost), Loss::NotHeld)));
        assert!(!guard.is_valid() && guard.remaining().is_zero());
        for text in ["a", "b", "c"] {
            let error = error_of(guard.fence(text), ErrorKind::Lost);
            assert_eq!(error.key(), Some(key(lost).display_hash()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_cancelled_on_the_first_loss_and_the_other_keys_are_released() {
    let world = World::new();
    let locks = world.locks();
    let work = locks.lock_all(["a", "b"]).run(async |lease| {
        world.release_by_force("b").await;
        lease.lost().await;
        std::future::pending::<()>().await;
    });
    let error = error_of(work.await, ErrorKind::Lost);
    assert_eq!(error.key(), Some(key("b").display_hash()));
    assert!(world.clock.elapsed() <= secs(10) + TICK, "at the next renewal");
    drained(&locks).await;
    assert!(!world.is_locked("a").await);
}

#[tokio::test(start_paused = true)]
async fn run_renews_all_keys_and_releases_them_after_the_work() {
    let world = World::new();
    let locks = world.locks();
    let work = locks.lock_all(["b", "a"]).renew(Renew::Every(secs(10))).run(async |lease| {
        sleep(secs(100)).await;
        (lease.fence("a").unwrap().number(), lease.fence("b").unwrap().number())
    });
    assert_eq!(work.await.unwrap(), (1, 1));
    assert!(!world.is_locked("a").await && !world.is_locked("b").await);
    let due: Vec<_> = (1..10).flat_map(|tenth| [secs(10 * tenth); 2]).collect();
    assert_all_at(&world.sent(Operation::Extend), &due);
    let tried = locks.lock_all(["b", "a"]).try_run(async |_| sleep(secs(100)).await).await;
    assert_eq!(tried.unwrap(), RunOutcome::Completed(()));
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_leaves_no_key_locked() {
    let world = World::new();
    let locks = world.locks();
    let set = locks.lock_all(["a", "b"]);
    let work = tokio::spawn(set.run(async |_| panic!("the work panics")));
    assert!(work.await.unwrap_err().is_panic());
    drained(&locks).await;
    assert!(!world.is_locked("a").await && !world.is_locked("b").await);
}

#[tokio::test(start_paused = true)]
async fn an_extend_extends_all_keys_in_parallel_and_may_be_repeated_after_an_error() {
    let world = World::new();
    let guard = held(&world, &["a", "b", "c"]).await;
    world.store.delay(Operation::Extend, secs(1));
    guard.extend(secs(60)).await.unwrap();
    assert_eq!(world.store.max_in_flight(Operation::Extend), 3);
    assert_at(world.clock.elapsed(), secs(1));
    assert_eq!(guard.remaining(), secs(57) - secs(1));

    world.plan(Operation::Extend, &Fault::NotSent, 1);
    error_of(guard.extend(secs(600)).await, ErrorKind::ServiceUnavailable);
    world.assert_planned(0);
    assert!(guard.is_valid());
    assert_eq!(guard.remaining(), secs(57) - secs(2), "the earliest deadline");
    guard.extend(secs(600)).await.unwrap();
    assert_eq!(guard.remaining(), secs(570) - secs(1));
    error_of(guard.extend("soon").await, ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_made_in_parallel_and_reports_an_outcome_for_each_key() {
    let world = World::new();
    let guard = held(&world, &["c", "a", "b"]).await;
    world.release_by_force("b").await;
    world.store.delay(Operation::Release, secs(1));
    let lease = guard.lease();
    let released = guard.release().await.unwrap();
    assert_at(world.clock.elapsed(), secs(1));
    let not_held = ReleaseOutcome::NotHeld(NotHeld::NotFound);
    let due = [ReleaseOutcome::Released, not_held, ReleaseOutcome::Released];
    assert_eq!(released, ["a", "b", "c"].map(key).into_iter().zip(due).collect::<Vec<_>>());
    assert!(!lease.is_valid() && lease.loss().is_none());
    error_of(lease.fence("a"), ErrorKind::Lost);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_for_one_key_releases_the_others_and_is_retried() {
    let world = World::new();
    let locks = world.locks();
    let guard = locks.lock_all(["a", "b", "c"]).acquire().await.unwrap();
    world.plan(Operation::Release, &Fault::NotSent, 1);
    let error = error_of(guard.release().await, ErrorKind::ServiceUnavailable);
    assert_eq!(error.key(), Some(key("a").display_hash()));
    world.assert_planned(0);
    assert!(!world.is_locked("b").await && !world.is_locked("c").await);
    drained(&locks).await;
    assert!(!world.is_locked("a").await);
}

/// Whichever of the two keys is first.
#[tokio::test(start_paused = true)]
async fn a_release_that_fails_for_one_key_reports_that_another_was_lost() {
    for (lost, failing) in [("a", "b"), ("b", "a")] {
        let world = World::new();
        let locks = world.locks();
        let guard = locks.lock_all(["a", "b", "c"]).acquire().await.unwrap();
        let lock_id = guard.lease_of(lost).unwrap().lock_id();
        world.release_by_force(lost).await;
        // The releases are sent in the order of the keys.
        world.plan(
            Operation::Release,
            &Fault::ReplyDelayed(open_gate()),
            usize::from(lost < failing),
        );
        world.plan(Operation::Release, &Fault::NotSent, 1);
        let error = error_of(guard.release().await, ErrorKind::Lost);
        world.assert_planned(0);
        assert_eq!(error.operation(), Some(Operation::Release));
        assert_eq!((error.key(), error.lock_id()), (Some(key(lost).display_hash()), Some(lock_id)));
        let failed: &Error = error.source().unwrap().downcast_ref().unwrap();
        assert_eq!(failed.kind(), ErrorKind::ServiceUnavailable);
        assert_eq!(failed.key(), Some(key(failing).display_hash()));
        drained(&locks).await;
        assert!(!world.is_locked(failing).await, "it is retried");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_guard_releases_all_of_its_keys_in_the_background() {
    let world = World::new();
    let locks = world.locks();
    let guard = locks.lock_all(["a", "b", "c"]).renew(Renew::Auto).acquire().await.unwrap();
    let lease = guard.lease();
    drop(guard);
    assert!(!lease.is_valid());
    drained(&locks).await;
    for text in ["a", "b", "c"] {
        assert!(!world.is_locked(text).await, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_cancels_the_wait_and_the_work_and_a_scope_cancels_the_guard() {
    let world = World::new();
    let held_elsewhere = world.hold_elsewhere("b", LONG).await;
    let (locks, token) = (world.locks(), CancellationToken::new());
    let set = locks.lock_all(["a", "b"]).wait(LONG).cancel_on(token.clone());
    let waiting = tokio::spawn(set.acquire());
    sleep(secs(40)).await;
    assert!(world.is_locked("a").await);
    token.cancel();
    error_of(waiting.await.unwrap(), ErrorKind::Aborted);
    drained(&locks).await;
    assert!(!world.is_locked("a").await);
    world.release_elsewhere(&held_elsewhere).await;

    let token = CancellationToken::new();
    let set = locks.lock_all(["a", "b"]).cancel_on(token.clone());
    let run = set.run(async |_| {
        token.cancel();
        std::future::pending::<()>().await;
    });
    error_of(run.await, ErrorKind::Aborted);

    let token = CancellationToken::new();
    let guard = locks.child(token.clone()).lock_all(["a", "b"]).acquire().await.unwrap();
    token.cancel();
    guard.lost().await;
    assert_eq!(guard.loss(), Some((&key("a"), Loss::Cancelled)));
}

/// Work that blocks its thread is not dropped when its scope is cancelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_result_of_work_that_outlasts_the_scope_of_its_keys_is_not_returned() {
    let (world, token) = (World::new(), CancellationToken::new());
    let run = world.locks().child(token.clone()).lock_all(["a", "b"]).run(async |lease| {
        token.cancel();
        while lease.is_valid() {
            std::thread::yield_now();
        }
    });
    error_of(run.await, ErrorKind::Aborted);
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_a_hold_count_from_when_all_keys_are_held() {
    let world = World::new();
    let held_elsewhere = world.hold_elsewhere("b", LONG).await;
    let locks = world.locks();
    let (min, max) = (secs(5), secs(15));
    let set = locks.lock_all(["a", "b"]).wait(LONG).min_hold(min).max_hold(max);
    let waiting = tokio::spawn(set.renew(Renew::Auto).acquire());
    sleep(secs(100)).await;
    world.release_elsewhere(&held_elsewhere).await;
    let guard = waiting.await.unwrap().unwrap();
    let start = Instant::now();
    assert_eq!(guard.fence("a").unwrap().number(), 1, "the wait was no hold");
    guard.lost().await;
    assert_at(start.elapsed(), max);
    assert_eq!(guard.loss(), Some((&key("a"), Loss::MaxHold)));
    drop(guard);
    drained(&locks).await;

    let guard = locks.lock_all(["a", "b"]).min_hold(min).acquire().await.unwrap();
    let start = Instant::now();
    guard.release().await.unwrap();
    sleep_until(start + min).await;
    assert!(world.is_locked("a").await && world.is_locked("b").await, "within the grace");
    sleep(secs(1)).await;
    assert!(!world.is_locked("a").await && !world.is_locked("b").await);
}

#[tokio::test(start_paused = true)]
async fn keys_that_reach_no_caller_are_released_before_their_minimum_hold() {
    let world = World::new();
    let _held_elsewhere = world.hold_elsewhere("b", LONG).await;
    let locks = world.locks();
    let attempt = locks.lock_all(["a", "b"]).min_hold(secs(20)).try_acquire().await.unwrap();
    assert!(attempt.acquired().is_none());
    assert!(!world.is_locked("a").await);
    let set = locks.lock_all(["a", "b"]).min_hold(secs(20));
    error_of(set.acquire().await, ErrorKind::AcquisitionTimeout);
    drained(&locks).await;
    assert!(!world.is_locked("a").await);
}

#[tokio::test(start_paused = true)]
async fn each_key_is_traced_as_an_operation_of_its_own_within_the_run() {
    let world = World::new();
    let (trace, _tracing) = Trace::begin();
    let set = world.locks().lock_all(["b", "a"]).renew(Renew::Every(secs(10)));
    set.run(async |_| sleep(secs(15)).await).await.unwrap();
    let hashes = ["a", "b"].map(|text| key(text).display_hash().to_string());
    for (name, parent) in [("acquire", Some("run")), ("renew", None), ("release", Some("run"))] {
        let spans = trace.spans_of(name);
        let found: Vec<_> = spans.iter().map(|span| span.field("syncguard.key.hash")).collect();
        assert_eq!(found, hashes.each_ref().map(|hash| Some(hash.as_str())), "{name}");
        assert!(spans.iter().all(|span| span.parent == parent), "{name}");
    }
    let [run] = &trace.spans_of("run")[..] else { panic!("{trace:?}") };
    assert_eq!(run.field("syncguard.key.hash"), None);
    assert_eq!(run.field("syncguard.outcome"), Some("ok"));
}
