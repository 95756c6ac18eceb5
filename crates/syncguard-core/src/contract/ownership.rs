//! Only the id that holds a lock can end or extend it.

use super::{Harness, steps::*};
use crate::backend::{LockBackend, LockRef, Mode};

/// An id that never held anything releases nothing.
pub async fn a_foreign_id_releases_nothing<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    granted(&a, &request_for("k", LONG)).await;
    release_reports_not_held(&b, LockRef::new(id(), key("k"))).await;
    release_reports_not_held(&b, id().into()).await;
    contended(&b, &request_for("k", LONG)).await;
}

/// An id that never held anything extends nothing.
pub async fn a_foreign_id_extends_nothing<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    let grant = granted(&a, &request).await;
    extend_reports_not_held(&b, LockRef::new(id(), key("k"))).await;
    extend_reports_not_held(&b, id().into()).await;
    let record = a.lookup(&request.lock_id.into()).await.expect("answers").expect("is held");
    assert_eq!(record.expires_at, grant.expires_at);
}

/// A holder whose grant has expired does not affect the new holder, with or without the key as a
/// hint.
pub async fn release_by_a_stale_owner_leaves_the_new_lock_alone<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let (stale, fresh) = (request_for("k", SHORT), request_for("k", LONG));
    granted(&a, &stale).await;
    expire(&h, &a, SHORT).await;
    granted(&b, &fresh).await;
    release_reports_not_held(&a, lock_of(&stale)).await;
    release_reports_not_held(&a, stale.lock_id.into()).await;
    extended(&b, lock_of(&fresh), LONG).await;
}

/// A holder whose grant has expired cannot extend the grant of the new holder.
pub async fn extend_by_a_stale_owner_leaves_the_new_lock_alone<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let (stale, fresh) = (request_for("k", SHORT), request_for("k", LONG));
    granted(&a, &stale).await;
    expire(&h, &a, SHORT).await;
    let grant = granted(&b, &fresh).await;
    extend_reports_not_held(&a, lock_of(&stale)).await;
    let record = b.lookup(&fresh.lock_id.into()).await.expect("answers").expect("is held");
    assert_eq!(record.expires_at, grant.expires_at);
}

/// A grant is released once, however many callers release it at the same time.
pub async fn a_lock_is_released_at_most_once<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    granted(&a, &request).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (a, lock) = (a.clone(), lock_of(&request));
        tasks.spawn(async move { a.release(&lock).await.expect("answers") });
    }
    let outcomes = tasks.join_all().await;
    let releases = outcomes.iter().filter(|o| **o == crate::ReleaseOutcome::Released);
    assert_eq!(releases.count(), 1);
    release_reports_not_held(&a, lock_of(&request)).await;
}

/// Release and extend work from the id alone.
pub async fn the_lock_id_alone_is_sufficient<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    granted(&a, &request).await;
    extended(&b, request.lock_id.into(), LONG).await;
    released(&b, request.lock_id.into()).await;
    assert!(!is_locked(&a, "k").await);
}

/// A hint that names another key or mode neither hides the lock nor affects that key's lock.
pub async fn a_wrong_hint_affects_no_other_lock<H: Harness>(h: H) {
    let (a, mine, other) =
        (h.client().await, request_for("mine", LONG), request_for("other", LONG));
    granted(&a, &mine).await;
    granted(&a, &other).await;
    let wrong = LockRef::new(mine.lock_id, key("other")).with_mode(Mode::SHARED);
    extended(&a, wrong.clone(), LONG).await;
    released(&a, wrong).await;
    assert!(is_locked(&a, "other").await);
    assert!(!is_locked(&a, "mine").await);
}

/// A released lock cannot be extended.
pub async fn a_released_lock_cannot_be_extended<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    granted(&a, &request).await;
    released(&a, lock_of(&request)).await;
    extend_reports_not_held(&a, lock_of(&request)).await;
    assert!(!is_locked(&a, "k").await);
}

/// Releasing one of several locks does not affect the others.
pub async fn releasing_one_lock_leaves_the_others_held<H: Harness>(h: H) {
    let (a, one, other) = (h.client().await, request_for("one", LONG), request_for("other", LONG));
    granted(&a, &one).await;
    granted(&a, &other).await;
    released(&a, lock_of(&one)).await;
    assert!(is_locked(&a, "other").await);
    released(&a, lock_of(&other)).await;
}
