//! Locks that outlast their work: `once`, `throttle` and `min_hold`.

use std::time::Duration;

use super::{Fault, Faulty, Harness, steps::*};
use crate::{
    ErrorKind, LockManager, OnceOutcome, Operation, ThrottleOutcome, backend::LockBackend,
};

/// A claim of a key is exclusive for the whole ttl, even after it was dropped.
pub async fn once_succeeds_again_only_after_the_ttl<H: Harness>(h: H) {
    let a = h.client().await;
    let (mine, theirs) = (LockManager::new(a.clone()), LockManager::new(h.client().await));
    let OnceOutcome::First(claim) = mine.once("k", BRIEF).await.expect("answers") else {
        panic!("is free")
    };
    assert_eq!(claim.fence().expect("is held").number(), 1);
    drop(claim);
    drained(&mine).await;
    for locks in [&mine, &theirs] {
        let OnceOutcome::Already(Some(holder)) = locks.once("k", LONG).await.expect("answers")
        else {
            panic!("it was claimed")
        };
        assert_eq!(holder.fence.expect("it is known").number(), 1);
    }
    expire(&h, &a, BRIEF).await;
    assert!(matches!(theirs.once("k", LONG).await, Ok(OnceOutcome::First(_))));
}

/// After a claim is released, another process can claim the key as the first.
pub async fn a_claim_that_is_released_can_be_made_again<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let OnceOutcome::First(claim) = mine.once("k", LONG).await.expect("answers") else {
        panic!("is free")
    };
    claim.release().await.expect("answers");
    assert!(matches!(theirs.once("k", LONG).await, Ok(OnceOutcome::First(_))));
}

/// A throttle lets one caller pass, reports to others when to retry, and lets one of them pass
/// then.
pub async fn a_throttle_lets_one_caller_pass_per_period<H: Harness>(h: H) {
    let a = h.client().await;
    let (mine, theirs) = (LockManager::new(a.clone()), LockManager::new(h.client().await));
    let most = a.capabilities().grace + BRIEF;
    assert_eq!(mine.throttle("k", BRIEF).await.expect("answers"), ThrottleOutcome::Passed);
    for locks in [&mine, &theirs] {
        let ThrottleOutcome::Limited { retry_after } =
            locks.throttle("k", BRIEF).await.expect("answers")
        else {
            panic!("one has passed")
        };
        assert!(retry_after.expect("it is known") <= most, "{retry_after:?}");
    }
    h.advance(most + SLACK).await;
    assert_eq!(theirs.throttle("k", BRIEF).await.expect("answers"), ThrottleOutcome::Passed);
}

/// A lock that is released early stays locked for `min_hold`, and no longer.
pub async fn work_that_ends_early_leaves_its_key_locked_for_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    locks.lock("k").ttl(LONG).min_hold(SHORT).run(async |_| ()).await.expect("is free");
    contended(&a, &request_for("k", LONG)).await;
    expire(&h, &a, SHORT).await;
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 2);
}

/// The same applies to a guard that is dropped, even if its release is still in the background.
pub async fn a_guard_dropped_early_leaves_its_key_locked_for_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    let lock = locks.lock("k").ttl(LONG).min_hold(SHORT);
    drop(lock.acquire().await.expect("is free"));
    drained(&locks).await;
    contended(&a, &request_for("k", LONG)).await;
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&a, "k").await);
}

/// After `min_hold`, a release frees the key immediately.
pub async fn a_lock_held_for_min_hold_is_released_immediately<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    let guard = locks.lock("k").ttl(LONG).min_hold(Duration::from_millis(1)).acquire().await;
    let guard = guard.expect("is free");
    tokio::time::sleep(Duration::from_millis(5)).await;
    guard.release().await.expect("answers");
    assert!(!is_locked(&a, "k").await);
}

/// A grant whose first reply was lost is abandoned, but not before `min_hold` has elapsed.
pub async fn a_grant_with_a_lost_reply_is_abandoned_after_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    let guard = locks.lock("k").ttl(LONG).min_hold(BRIEF).acquire().await.expect("is free");
    assert_eq!(faulty.planned(), 0, "the reply was lost");
    let lock_id = guard.lock_id();
    guard.release().await.expect("answers");
    contended(&a, &request_for("k", LONG)).await;
    drained(&locks).await;
    expire(&h, &a, BRIEF).await;
    let late = crate::backend::AcquireRequest { lock_id, ..request_for("k", LONG) };
    error_of(a.acquire(&late).await, ErrorKind::Aborted);
    assert!(!is_locked(&a, "k").await);
}

/// A `min_hold` that the ttl does not cover is rejected before anything is sent.
pub async fn a_min_hold_beyond_the_ttl_is_rejected<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    let lock = || locks.lock("k").min_hold(LONG);
    let error = error_of(lock().ttl(SHORT).try_acquire().await, ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("min_hold 60s"), "{error}");
    error_of(lock().ttl(LONG).max_hold(SHORT).acquire().await, ErrorKind::InvalidArgument);
    assert!(!is_locked(&a, "k").await);
}

/// A grant that no caller received is released immediately, because no work was done under it.
pub async fn a_grant_that_no_caller_received_is_not_kept_for_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let gate = super::Gate::new();
    faulty.plan(Operation::Acquire, Fault::ReplyDelayed(gate.clone()));
    let lock = locks.lock("k").ttl(LONG).min_hold(LONG).wait(SHORT);
    error_of(lock.acquire().await, ErrorKind::Ambiguous);
    gate.open();
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}
