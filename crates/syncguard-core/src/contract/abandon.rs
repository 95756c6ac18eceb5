//! Abandoning a grant that may or may not exist.

use super::{Harness, steps::*};
use crate::{
    ErrorKind,
    backend::{AcquireOutcome, LockBackend},
};

/// An abandon after the grant frees the key.
pub async fn abandoning_after_the_grant_frees_the_key<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    granted(&a, &request).await;
    a.abandon(request.lock_id, &request.key).await.expect("answers");
    assert!(!is_locked(&b, "k").await);
    error_of(a.acquire(&request).await, ErrorKind::Aborted);
    let next = request_for("k", LONG);
    assert_eq!(granted(&b, &next).await.fence.number(), 2);
    let late = a.acquire(&request).await;
    assert!(
        !matches!(late, Ok(AcquireOutcome::Granted(_))),
        "another holder has the key: {late:?}"
    );
    released(&b, next.lock_id.into()).await;
    error_of(a.acquire(&request).await, ErrorKind::Aborted);
}

/// After an abandon, an acquire with the id is rejected and uses up no fence.
pub async fn abandoning_before_the_acquire_prevents_the_grant<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    b.abandon(request.lock_id, &request.key).await.expect("answers");
    let error = error_of(a.acquire(&request).await, ErrorKind::Aborted);
    assert!(!error.may_have_applied());
    assert!(!is_locked(&a, "k").await);
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 1);
}

/// An abandoned id is never granted: however often it is requested, whatever else is abandoned, and
/// for longer than any grace.
pub async fn an_abandoned_id_is_never_granted_again<H: Harness>(h: H) {
    let a = h.client().await;
    let requests = ["k", "k", "other"].map(|text| request_for(text, LONG));
    for request in &requests {
        a.abandon(request.lock_id, &request.key).await.expect("answers");
    }
    h.advance(a.capabilities().grace + SHORT).await;
    for request in requests.iter().chain(&requests) {
        error_of(a.acquire(request).await, ErrorKind::Aborted);
    }
    assert!(!is_locked(&a, "k").await && !is_locked(&a, "other").await);
}

/// If an id is abandoned while its acquire is in flight, it holds no lock afterwards, whichever
/// reached the store first.
pub async fn abandoning_during_the_acquire_leaves_no_lock<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for round in 0..50 {
        let text = format!("k{round}");
        let request = request_for(&text, LONG);
        let (outcome, abandoned) = tokio::join!(a.acquire(&request), async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            b.abandon(request.lock_id, &request.key).await
        });
        abandoned.expect("answers");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
        }
        assert!(!is_locked(&b, &text).await, "round {round}");
        assert!(a.lookup(&request.lock_id.into()).await.expect("answers").is_none());
    }
}

/// Abandoning twice, or abandoning an id that was never used, is not an error and affects no other
/// lock.
pub async fn abandoning_is_idempotent_and_affects_no_other_lock<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    granted(&a, &request).await;
    for _ in 0..2 {
        a.abandon(id(), &request.key).await.expect("answers");
    }
    assert!(a.lookup(&request.lock_id.into()).await.expect("answers").is_some());
    for _ in 0..2 {
        a.abandon(request.lock_id, &request.key).await.expect("answers");
    }
    assert!(!is_locked(&a, "k").await);
}

/// Abandoning an id that no longer holds the key does not affect the new holder.
pub async fn abandoning_a_stale_id_leaves_the_new_lock_alone<H: Harness>(h: H) {
    let (a, stale) = (h.client().await, request_for("k", LONG));
    granted(&a, &stale).await;
    released(&a, lock_of(&stale)).await;
    let fresh = request_for("k", LONG);
    granted(&a, &fresh).await;
    a.abandon(stale.lock_id, &stale.key).await.expect("answers");
    released(&a, lock_of(&fresh)).await;
}
