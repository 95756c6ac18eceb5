//! What the store tells of a lock.

use super::{Harness, steps::*};
use crate::{LockBackend, Owner, SyncGuard};

/// Looked up by its key or by its id, a lock shows the same whole record.
pub async fn a_lock_is_found_by_key_and_by_id<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let owner = Owner::new("web-3:4711").ok();
    let request = ask("k", LONG).with_owner(owner.clone());
    let grant = granted(&a, &request).await;
    for query in [request.key.clone().into(), request.lock_id.into()] {
        let record = b.lookup(&query).await.expect("answers").expect("is held");
        assert_eq!((&record.key, record.lock_id), (&request.key, request.lock_id));
        assert_eq!((record.fence, record.expires_at), (grant.fence, grant.expires_at));
        assert_eq!(record.owner, owner);
        assert!(record.acquired_at <= record.observed_at, "{record:?}");
    }
}

/// A key or an id that holds nothing is not found.
pub async fn what_is_not_held_is_not_found<H: Harness>(h: H) {
    let (a, request) = (h.client().await, ask("k", LONG));
    granted(&a, &request).await;
    released(&a, lock_of(&request)).await;
    assert!(a.lookup(&request.key.into()).await.expect("answers").is_none());
    assert!(a.lookup(&request.lock_id.into()).await.expect("answers").is_none());
    assert!(a.lookup(&key("never").into()).await.expect("answers").is_none());
    assert!(a.lookup(&id().into()).await.expect("answers").is_none());
}

/// A grant that is over is not found.
pub async fn what_has_expired_is_not_found<H: Harness>(h: H) {
    let (a, request) = (h.client().await, ask("k", SHORT));
    granted(&a, &request).await;
    expire(&h, &a, SHORT).await;
    assert!(a.lookup(&request.key.into()).await.expect("answers").is_none());
    assert!(a.lookup(&request.lock_id.into()).await.expect("answers").is_none());
}

/// An owner label is the present holder's or nobody's, never a former one's.
pub async fn an_owner_label_goes_with_its_grant<H: Harness>(h: H) {
    let (a, first) = (h.client().await, ask("k", LONG).with_owner(Owner::new("first").ok()));
    granted(&a, &first).await;
    released(&a, lock_of(&first)).await;
    granted(&a, &ask("k", LONG)).await;
    let record = a.lookup(&key("k").into()).await.expect("answers").expect("is held");
    assert_eq!(record.owner, None);
}

/// What the lock API shows holds neither the key nor the id in clear; the raw form does.
pub async fn lookups_show_hashes_unless_the_raw_form_is_asked_for<H: Harness>(h: H) {
    let locks = SyncGuard::new(h.client().await);
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
