//! Only the id that holds a lock can end or extend it.

use super::{Harness, steps::*};
use crate::{LockBackend, LockRef};

/// An id that never held anything releases nothing.
pub async fn a_foreign_id_releases_nothing<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    granted(&a, &ask("k", LONG)).await;
    release_finds_nothing(&b, LockRef::new(id(), key("k"))).await;
    release_finds_nothing(&b, id().into()).await;
    contended(&b, &ask("k", LONG)).await;
}

/// An id that never held anything extends nothing.
pub async fn a_foreign_id_extends_nothing<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = ask("k", LONG);
    let grant = granted(&a, &request).await;
    extend_finds_nothing(&b, LockRef::new(id(), key("k"))).await;
    extend_finds_nothing(&b, id().into()).await;
    let record = a.lookup(&request.lock_id.into()).await.expect("answers").expect("is held");
    assert_eq!(record.expires_at, grant.expires_at);
}

/// A holder whose grant ran out does not affect the new holder, with or without the key as a hint.
pub async fn release_by_a_stale_owner_leaves_the_new_lock_alone<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let (stale, fresh) = (ask("k", SHORT), ask("k", LONG));
    granted(&a, &stale).await;
    expire(&h, &a, SHORT).await;
    granted(&b, &fresh).await;
    release_finds_nothing(&a, lock_of(&stale)).await;
    release_finds_nothing(&a, stale.lock_id.into()).await;
    extended(&b, lock_of(&fresh), LONG).await;
}

/// A holder whose grant ran out cannot extend the new holder's.
pub async fn extend_by_a_stale_owner_leaves_the_new_lock_alone<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let (stale, fresh) = (ask("k", SHORT), ask("k", LONG));
    granted(&a, &stale).await;
    expire(&h, &a, SHORT).await;
    let grant = granted(&b, &fresh).await;
    extend_finds_nothing(&a, lock_of(&stale)).await;
    let record = b.lookup(&fresh.lock_id.into()).await.expect("answers").expect("is held");
    assert_eq!(record.expires_at, grant.expires_at);
}

/// A grant is released once, however many callers ask at the same time.
pub async fn a_lock_is_released_at_most_once<H: Harness>(h: H) {
    let (a, request) = (h.client().await, ask("k", LONG));
    granted(&a, &request).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (a, lock) = (a.clone(), lock_of(&request));
        tasks.spawn(async move { a.release(&lock).await.expect("answers") });
    }
    let outcomes = tasks.join_all().await;
    let releases = outcomes.iter().filter(|o| **o == crate::ReleaseOutcome::Released);
    assert_eq!(releases.count(), 1);
    release_finds_nothing(&a, lock_of(&request)).await;
}

/// Release and extend work from the id alone.
pub async fn the_id_alone_is_enough<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = ask("k", LONG);
    granted(&a, &request).await;
    extended(&b, request.lock_id.into(), LONG).await;
    released(&b, request.lock_id.into()).await;
    assert!(!is_locked(&a, "k").await);
}

/// A hint that names another key neither hides the lock nor affects that key's lock.
pub async fn a_wrong_hint_does_no_harm<H: Harness>(h: H) {
    let (a, mine, other) = (h.client().await, ask("mine", LONG), ask("other", LONG));
    granted(&a, &mine).await;
    granted(&a, &other).await;
    extended(&a, LockRef::new(mine.lock_id, key("other")), LONG).await;
    released(&a, LockRef::new(mine.lock_id, key("other"))).await;
    assert!(is_locked(&a, "other").await);
    assert!(!is_locked(&a, "mine").await);
}

/// A released id is not granted again.
pub async fn a_released_lock_cannot_be_extended<H: Harness>(h: H) {
    let (a, request) = (h.client().await, ask("k", LONG));
    granted(&a, &request).await;
    released(&a, lock_of(&request)).await;
    extend_finds_nothing(&a, lock_of(&request)).await;
    assert!(!is_locked(&a, "k").await);
}

/// A holder of several locks releases the intended one.
pub async fn releasing_one_lock_leaves_the_others<H: Harness>(h: H) {
    let (a, one, other) = (h.client().await, ask("one", LONG), ask("other", LONG));
    granted(&a, &one).await;
    granted(&a, &other).await;
    released(&a, lock_of(&one)).await;
    assert!(is_locked(&a, "other").await);
    released(&a, lock_of(&other)).await;
}
