//! A lock from its grant to its release.

use super::{CaseOutcome, Connection, Harness, Hook, steps::*};
use crate::{Fence, LockManager, backend::LockBackend};

/// A key that no one holds is granted, with the first fence.
pub async fn a_free_key_is_granted_under_the_first_fence<H: Harness>(h: H) {
    let grant = granted(&h.client().await, &request_for("k", LONG)).await;
    assert_eq!(grant.fence, Fence::new(1).expect("it fits"));
}

/// The expiry is one ttl after the store's current time.
pub async fn a_grant_expires_one_ttl_after_it_was_made<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    let grant = granted(&a, &request).await;
    let record = a.lookup(&request.lock_id.into()).await.expect("answers").expect("is held");
    assert_eq!(grant.expires_at.since(record.acquired_at), LONG);
    assert!(record.remaining() <= LONG && record.remaining() > LONG / 2, "{record:?}");
}

/// After its release, a key is immediately free for others, without any grace.
pub async fn a_released_key_is_free_immediately<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    granted(&a, &request).await;
    released(&a, lock_of(&request)).await;
    assert!(!is_locked(&b, "k").await);
    granted(&b, &request_for("k", LONG)).await;
}

/// What one client does is visible to another.
pub async fn clients_see_each_others_locks<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    assert!(!is_locked(&b, "k").await);
    granted(&a, &request_for("k", LONG)).await;
    assert!(is_locked(&b, "k").await);
    assert!(!is_locked(&b, "other").await);
}

/// Acquire, extend and release through the lock API.
pub async fn a_guard_acquires_extends_and_releases<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", BRIEF).await;
    assert!(guard.is_valid() && guard.remaining() <= BRIEF);
    assert_eq!(guard.fence().expect("is held").number(), 1);
    guard.extend(LONG).await.expect("is extended");
    assert!(guard.remaining() > BRIEF);
    assert!(locks.owns(guard.lock_id()).await.expect("answers"));
    let lease = guard.lease();
    assert_eq!(guard.release().await.expect("answers"), crate::ReleaseOutcome::Released);
    assert!(!lease.is_valid() && lease.fence().is_err() && lease.remaining().is_zero());
    assert!(!locks.is_locked("k").await.expect("answers"));
}

/// Locks, fences and owners survive a restart of a store that reports itself durable.
pub async fn a_durable_store_keeps_locks_and_fences_over_a_restart<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let a = h.client().await;
    let (kept, gone) = (request_for("kept", LONG), request_for("gone", LONG));
    granted(&a, &kept).await;
    granted(&a, &gone).await;
    released(&a, lock_of(&gone)).await;
    if a.capabilities().fencing != crate::backend::Fencing::Durable {
        assert_eq!(h.restart().await, Hook::Missing, "a store that restarts must be durable");
        return Err(CaseOutcome::Skipped("the store does not claim to be durable"));
    }
    assert_eq!(h.restart().await, Hook::Done, "a durable store must be restarted");
    let b = h.client().await;
    contended(&b, &request_for("kept", LONG)).await;
    assert_eq!(granted(&b, &kept).await.fence.number(), 1);
    assert_eq!(granted(&b, &request_for("gone", LONG)).await.fence.number(), 2);
    Ok(())
}

/// A client whose connections are cut recovers.
pub async fn a_client_whose_connections_are_cut_recovers<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let a = h.client().await;
    let request = request_for("k", LONG);
    granted(&a, &request).await;
    if H::profile().connection == Connection::InProcess {
        assert_eq!(h.cut_connections().await, Hook::Missing, "there are no connections");
        return Err(CaseOutcome::Skipped("the store is not reached through a network"));
    }
    assert_eq!(h.cut_connections().await, Hook::Done, "the connections of a network must be cut");
    let lock = lock_of(&request);
    eventually("the client has recovered", async || a.extend(&lock, ttl(LONG)).await.is_ok()).await;
    released(&a, lock).await;
    Ok(())
}

/// The store under test has no unsafe settings.
pub async fn the_store_under_test_passes_its_own_check<H: Harness>(h: H) {
    let findings = h.client().await.check().await.expect("answers");
    let unsafe_findings: Vec<_> =
        findings.iter().filter(|f| f.severity == crate::backend::Severity::Unsafe).collect();
    assert!(unsafe_findings.is_empty(), "{unsafe_findings:?}");
}
