//! Requests and replies that are lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Fault, Faulty, Gate, Harness, steps::*};
use crate::{ErrorKind, LockManager, Operation};

/// If the reply is lost, the request is repeated and returns the same grant. The grant is never
/// mistaken for contention.
pub async fn a_repeat_after_a_lost_reply_returns_the_same_grant<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    for number in 1..=20 {
        faulty.plan(Operation::Acquire, Fault::ReplyLost);
        let guard = held(&locks, "k", LONG).await;
        assert_eq!(guard.fence().expect("is held").number(), number);
        assert_eq!(faulty.planned(), 0, "the reply was lost");
        guard.release().await.expect("answers");
    }
}

/// If the request is lost, it is repeated and is granted the lock.
pub async fn a_lost_request_is_repeated<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::RequestLost);
    assert_eq!(held(&locks, "k", LONG).await.fence().expect("is held").number(), 1);
}

/// If no reply arrives at all, the error reports for how long the key may stay locked, and the
/// grant that the caller never received is abandoned.
pub async fn without_any_reply_the_outcome_is_ambiguous_and_the_grant_abandoned<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    let error = error_of(locks.lock("k").ttl(LONG).try_acquire().await, ErrorKind::Ambiguous);
    assert!(error.free_within().expect("is bounded") >= LONG && error.is_retryable());
    assert_eq!(faulty.planned(), 0, "both replies were lost");
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 2, "it had been granted");
}

/// Contention whose reply is lost is reported as contention by the repeated request.
pub async fn contention_with_a_lost_reply_is_reported_as_contention<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let request = request_for("k", LONG);
    granted(&a, &request).await;
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    assert!(is_contended(&locks.lock("k").try_acquire().await));
    drained(&locks).await;
    released(&a, lock_of(&request)).await;
}

/// A request that was abandoned and reaches the store later is rejected there.
pub async fn a_request_that_arrives_after_it_was_abandoned_is_rejected<H: Harness>(h: H) {
    let (a, gate) = (h.client().await, Gate::new());
    let faulty = Faulty::new(h.client().await);
    let locks =
        LockManager::builder(faulty.clone()).request_timeout(Duration::from_millis(250)).build();
    faulty.plan(Operation::Acquire, Fault::RequestDelayed(gate.clone()));
    faulty.plan(Operation::Acquire, Fault::RequestLost);
    error_of(locks.lock("k").ttl(LONG).try_acquire().await, ErrorKind::Ambiguous);
    gate.reached().await;
    drained(&locks).await;
    gate.open();
    // Its reply has no receiver. The key must stay free.
    for _ in 0..20 {
        assert!(!is_locked(&a, "k").await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 1);
}

/// A request that was retried, found granted and released does not grant anything when it finally
/// arrives.
pub async fn a_request_that_arrives_after_its_grant_was_released_is_rejected<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let timeout = Duration::from_millis(250);
    let locks = LockManager::builder(faulty.clone()).request_timeout(timeout).build();
    for awaited in [true, false] {
        let gate = Gate::new();
        faulty.plan(Operation::Acquire, Fault::RequestDelayed(gate.clone()));
        let guard = held(&locks, "k", LONG).await;
        gate.reached().await;
        if awaited {
            guard.release().await.expect("answers");
        } else {
            drop(guard);
        }
        drained(&locks).await;
        gate.open();
        for _ in 0..20 {
            assert!(!is_locked(&a, "k").await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A request that was certainly not sent is retried within the wait, and uses up no fence.
pub async fn a_request_that_was_not_sent_is_retried_within_the_wait<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    for _ in 0..3 {
        faulty.plan(Operation::Acquire, Fault::NotSent);
    }
    let guard = locks.lock("k").acquire().await.expect("the fourth attempt succeeds");
    assert_eq!(guard.fence().expect("is held").number(), 1);
    assert_eq!(faulty.planned(), 0);
}

/// A permanent error is reported immediately, and a single attempt reports a store that is
/// unavailable.
pub async fn a_permanent_error_is_reported_immediately<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::Refused);
    let error = error_of(locks.lock("k").wait(LONG).acquire().await, ErrorKind::AuthFailed);
    assert_eq!(
        (error.operation(), error.key()),
        (Some(Operation::Acquire), Some(key("k").display_hash()))
    );
    faulty.plan(Operation::Acquire, Fault::NotSent);
    let error = error_of(locks.lock("k").try_acquire().await, ErrorKind::ServiceUnavailable);
    assert!(error.is_retryable() && !error.may_have_applied());
}

/// A wait that ends while the store is unreachable reports that, not a holder.
pub async fn a_wait_for_an_unreachable_store_reports_it_as_unavailable<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    for _ in 0..100 {
        faulty.plan(Operation::Acquire, Fault::NotSent);
    }
    let result = locks.lock("k").wait(SHORT).acquire().await;
    error_of(result, ErrorKind::ServiceUnavailable);
}

/// A release whose reply is lost is repeated in the background; so is one that was not sent.
pub async fn a_failed_release_is_retried_in_the_background<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    for fault in [Fault::NotSent, Fault::RequestLost, Fault::ReplyLost] {
        let guard = held(&locks, "k", LONG).await;
        faulty.plan(Operation::Release, fault.clone());
        error_of(guard.release().await, kind_of(&fault));
        drained(&locks).await;
        assert!(!is_locked(&a, "k").await);
        faulty.plan(Operation::Release, fault);
        drop(held(&locks, "k", LONG).await);
        drained(&locks).await;
        assert!(!is_locked(&a, "k").await);
        assert_eq!(faulty.planned(), 0);
    }
}

fn kind_of(fault: &Fault) -> ErrorKind {
    match fault {
        Fault::NotSent => ErrorKind::ServiceUnavailable,
        Fault::Refused => ErrorKind::AuthFailed,
        _ => ErrorKind::NetworkTimeout,
    }
}

/// A background release that fails permanently reaches the callback, and a callback that panics
/// does not stop the next one.
pub async fn a_release_that_fails_permanently_is_reported_to_the_callback<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let locks = LockManager::builder(faulty.clone())
        .on_release_error(move |error| {
            assert_eq!(
                (error.kind(), error.operation()),
                (ErrorKind::AuthFailed, Some(Operation::Release))
            );
            count.fetch_add(1, Ordering::SeqCst);
            panic!("the callback panics");
        })
        .build();
    for n in 1..=2 {
        faulty.plan(Operation::Release, Fault::Refused);
        drop(held(&locks, &format!("k{n}"), LONG).await);
        drained(&locks).await;
        assert_eq!(calls.load(Ordering::SeqCst), n);
    }
}

/// After an extend without a reply, the lock is held until its deadline, and the extend can be
/// repeated.
pub async fn an_extend_without_a_reply_can_be_repeated<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let guard = held(&locks, "k", LONG).await;
    for fault in [Fault::NotSent, Fault::RequestLost, Fault::ReplyLost] {
        faulty.plan(Operation::Extend, fault);
        guard.extend(LONG).await.expect_err("the fault happens");
        assert!(guard.is_valid());
        guard.extend(LONG).await.expect("is extended");
    }
}

/// A shortening extend without a reply counts as applied.
pub async fn a_shortening_extend_without_a_reply_counts_as_applied<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let guard = held(&locks, "k", LONG).await;
    faulty.plan(Operation::Extend, Fault::ReplyLost);
    guard.extend(SHORT).await.expect_err("the reply is lost");
    assert!(guard.remaining() <= SHORT);
    guard.lost().await;
    assert!(!guard.is_valid());
}
