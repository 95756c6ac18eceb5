//! The effect of an extend on the expiry.

use super::{Harness, steps::*};
use crate::{
    LockManager,
    backend::{ExtendOutcome, LockBackend},
};

/// An extend keeps the key beyond its first ttl.
pub async fn an_extended_lock_outlives_its_first_ttl<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", SHORT);
    granted(&a, &request).await;
    extended(&a, lock_of(&request), LONG).await;
    expire(&h, &a, SHORT).await;
    contended(&b, &request_for("k", LONG)).await;
    released(&a, lock_of(&request)).await;
}

/// An extend counts from now; it does not add to the remaining time.
pub async fn an_extend_does_not_add_to_the_remaining_time<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    let grant = granted(&a, &request).await;
    for _ in 0..3 {
        let outcome = a.extend(&lock_of(&request), ttl(LONG)).await.expect("answers");
        let ExtendOutcome::Extended { expires_at } = outcome else { panic!("{outcome:?}") };
        assert!(expires_at >= grant.expires_at);
        assert!(expires_at.since(grant.expires_at) < LONG / 2, "{expires_at} {grant:?}");
        let record = a.lookup(&request.lock_id.into()).await.expect("answers").expect("is held");
        assert_eq!(record.expires_at, expires_at);
    }
}

/// An extend may shorten the remaining time.
pub async fn an_extend_can_shorten_the_remaining_time<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    granted(&a, &request).await;
    extended(&a, lock_of(&request), SHORT).await;
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&a, "k").await);
}

/// An extend never revives an expired grant, even if the key was not granted again.
pub async fn an_extend_never_revives_an_expired_grant<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", SHORT));
    granted(&a, &request).await;
    expire(&h, &a, SHORT).await;
    extend_reports_not_held(&a, lock_of(&request)).await;
    assert!(!is_locked(&a, "k").await);
    granted(&a, &request_for("k", LONG)).await;
}

/// The ttl of an extend counts from when the store carries it out, not from before its wait for the
/// store. So the new expiry is not earlier than one ttl after a time at which the old expiry was
/// still in force. (A store whose write is conditional on an unchanged read may be slightly
/// behind.)
pub async fn an_extend_counts_from_after_the_wait_for_the_store<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for round in 0..20 {
        let request = request_for(&format!("k{round}"), LONG);
        let grant = granted(&a, &request).await;
        let (query, lock, twice) = (request.key.clone().into(), lock_of(&request), ttl(LONG * 2));
        let (seen, outcome) = tokio::join!(a.lookup(&query), b.extend(&lock, twice));
        let (seen, outcome) = (seen.expect("answers").expect("is held"), outcome.expect("answers"));
        let ExtendOutcome::Extended { expires_at } = outcome else { panic!("{outcome:?}") };
        if seen.expires_at == grant.expires_at {
            let least = seen.observed_at.after(twice);
            assert!(expires_at.later_by(SHORT) >= least, "{expires_at} {seen:?}");
        }
    }
}

/// An extend changes the expiry and nothing else.
pub async fn an_extend_keeps_fence_owner_and_start<H: Harness>(h: H) {
    let a = h.client().await;
    let owner = crate::Owner::new("me").ok();
    let request = request_for("k", SHORT).with_owner(owner);
    granted(&a, &request).await;
    let before = a.lookup(&request.lock_id.into()).await.expect("answers").expect("is held");
    h.advance(SHORT / 3).await;
    extended(&a, lock_of(&request), LONG).await;
    let after = a.lookup(&request.lock_id.into()).await.expect("answers").expect("is held");
    assert_eq!((after.fence, after.acquired_at), (before.fence, before.acquired_at));
    assert_eq!((after.owner, after.key), (before.owner, before.key));
}

/// Concurrent extends of one guard run one after the other and all succeed.
pub async fn extends_of_one_guard_do_not_overtake_each_other<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", LONG).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let lease = guard.lease();
        tasks.spawn(async move { lease.extend(LONG).await });
    }
    for result in tasks.join_all().await {
        result.expect("is extended");
    }
    assert!(guard.is_valid());
}
