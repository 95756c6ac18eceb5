//! What lookups return.

use super::{Harness, steps::*};
use crate::{
    LockManager, Owner,
    backend::{Grant, LockBackend},
};

/// A lookup by key and a lookup by id return the same whole record, and not that of another lock.
pub async fn a_lock_is_found_by_key_and_by_id<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let owner = Owner::new("web-3:4711").ok();
    let request = request_for("k", LONG).with_owner(owner.clone());
    granted(&a, &request_for("a", LONG)).await;
    let grant = granted(&a, &request).await;
    granted(&a, &request_for("z", LONG)).await;
    for query in [request.key.clone().into(), request.lock_id.into()] {
        let record = b.lookup(&query).await.expect("answers").expect("is held");
        assert_eq!((&record.key, record.lock_id), (&request.key, request.lock_id));
        assert_eq!((record.fence, record.expires_at), (grant.fence, grant.expires_at));
        assert_eq!(record.owner, owner);
        assert!(record.acquired_at <= record.observed_at, "{record:?}");
    }
}

/// A record contains the time at which it was read, which is later than the grant.
pub async fn a_record_contains_the_time_of_its_read<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    granted(&a, &request).await;
    h.advance(SHORT).await;
    let record = a.lookup(&request.key.into()).await.expect("answers").expect("is held");
    let age = record.observed_at.since(record.acquired_at);
    assert!(age >= SHORT / 2 && record.remaining() <= LONG - SHORT / 2, "{record:?}");
}

/// A key or an id that holds nothing is not found, whatever else is held.
pub async fn a_lookup_of_a_lock_that_is_not_held_finds_nothing<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    granted(&a, &request_for("other", LONG)).await;
    granted(&a, &request).await;
    released(&a, lock_of(&request)).await;
    assert!(a.lookup(&request.key.into()).await.expect("answers").is_none());
    assert!(a.lookup(&request.lock_id.into()).await.expect("answers").is_none());
    assert!(a.lookup(&key("never").into()).await.expect("answers").is_none());
    assert!(a.lookup(&id().into()).await.expect("answers").is_none());
}

/// An expired grant is not found.
pub async fn a_lookup_of_an_expired_lock_finds_nothing<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", SHORT));
    granted(&a, &request).await;
    expire(&h, &a, SHORT).await;
    assert!(a.lookup(&request.key.into()).await.expect("answers").is_none());
    assert!(a.lookup(&request.lock_id.into()).await.expect("answers").is_none());
}

/// The owner label and the start are those of the current grant, never of an earlier one, however
/// the earlier one ended.
pub async fn owner_and_start_are_those_of_the_current_grant<H: Harness>(h: H) {
    let a = h.client().await;
    let named = |duration| request_for("k", duration).with_owner(Owner::new("former").ok());
    let (first, second) = (named(LONG), named(SHORT));
    granted(&a, &first).await;
    released(&a, lock_of(&first)).await;
    assert_unnamed_and_new(&a, granted(&a, &request_for("k", SHORT)).await).await;
    expire(&h, &a, SHORT).await;
    granted(&a, &second).await;
    expire(&h, &a, SHORT).await;
    assert_unnamed_and_new(&a, granted(&a, &request_for("k", LONG)).await).await;
}

/// Asserts that the current grant has no owner and was just made.
async fn assert_unnamed_and_new(a: &impl LockBackend, grant: Grant) {
    let record = a.lookup(&key("k").into()).await.expect("answers").expect("is held");
    assert_eq!((&record.owner, record.fence), (&None, grant.fence));
    assert!(record.observed_at.since(record.acquired_at) < SHORT, "{record:?}");
}

/// What the lock API shows contains neither the key nor the id in clear; the raw form does.
pub async fn lookups_return_hashes_unless_the_raw_form_is_requested<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "patient:jane", LONG).await;
    let info = locks.lookup("patient:jane").await.expect("answers").expect("is held");
    let shown = format!("{info:?}");
    assert!(!shown.contains("jane") && !shown.contains(guard.lock_id().as_str()), "{shown}");
    assert_eq!((info.key, info.fence), (guard.key().display_hash(), guard.fence().expect("held")));
    let by_id = locks.lookup_by_id(guard.lock_id()).await.expect("answers").expect("is held");
    assert_eq!(by_id.lock_id, info.lock_id);
    let raw = locks.lookup_raw(&guard.lock_id().into()).await.expect("answers").expect("is held");
    assert_eq!((raw.key.as_str(), raw.lock_id), ("patient:jane", guard.lock_id()));
}
