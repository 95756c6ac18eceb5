use syncguard_core::backend::{ExtendOutcome, ListRequest, LockBackend};
use syncguard_sqlite::SqliteBackend;

use crate::{Scratch, acquire_and_release, granted, key, lock_of, release, request, ttl};

/// Keys with characters that are special in SQL, C or a pattern, in the order of their bytes.
const AWKWARD: [&str; 10] =
    ["a", "a\0", "a\0b", "a\"'", "a%", "a*", "a_b", "ab", "a\u{e9}", "a\u{1f512}"];

async fn keys(backend: &SqliteBackend, request: ListRequest) -> Vec<String> {
    let page = backend.list(&request).await.unwrap();
    page.locks.iter().map(|lock| lock.key.as_str().to_owned()).collect()
}

#[tokio::test]
async fn awkward_keys_are_separate_locks_and_listed_by_their_bytes() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    for text in AWKWARD.iter().rev().chain(&["b", "A", "\u{10ffff}"]) {
        let grant = granted(&backend, &request(text)).await;
        assert_eq!(grant.fence.number(), 1, "{text:?}");
    }
    assert_eq!(keys(&backend, ListRequest::new("a")).await, AWKWARD);
    assert_eq!(keys(&backend, ListRequest::new("a\0")).await, ["a\0", "a\0b"]);
    assert_eq!(keys(&backend, ListRequest::new("a%")).await, ["a%"]);
    assert_eq!(keys(&backend, ListRequest::new("a_")).await, ["a_b"]);
    assert_eq!(keys(&backend, ListRequest::new("\u{10ffff}")).await, ["\u{10ffff}"]);
    assert_eq!(keys(&backend, ListRequest::new("")).await.len(), 13);
    assert!(keys(&backend, ListRequest::new("a\"' OR 1")).await.is_empty());
}

#[tokio::test]
async fn pages_contain_every_lock_once() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    for text in AWKWARD {
        granted(&backend, &request(text)).await;
    }
    let mut seen = Vec::new();
    let mut next = Some(ListRequest::new("a").limit(3));
    while let Some(request) = next.take() {
        let page = backend.list(&request).await.unwrap();
        assert!(page.locks.len() <= 3);
        seen.extend(page.locks.iter().map(|lock| lock.key.as_str().to_owned()));
        next = page.next.map(|token| ListRequest::new("a").limit(3).after(token));
    }
    assert_eq!(seen, AWKWARD);
}

#[tokio::test]
async fn released_and_expired_locks_are_not_listed() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    acquire_and_release(&backend, "released").await;
    granted(&backend, &request("over")).await;
    let expire = "UPDATE syncguard_locks SET expires_at_ms = 1 WHERE lock_id IS NOT NULL";
    scratch.foreign().await.run(expire).await;
    granted(&backend, &request("held")).await;
    assert_eq!(keys(&backend, ListRequest::new("")).await, ["held"]);
}

#[tokio::test]
async fn a_forced_release_ends_a_grant_and_returns_its_record() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = request("key");
    let grant = granted(&backend, &held).await;
    let ended = backend.force_release(&held.key).await.unwrap().unwrap();
    assert_eq!((ended.lock_id, ended.fence), (held.lock_id, grant.fence));
    assert_eq!(ended.expires_at, grant.expires_at);
    assert_eq!(ended.expires_at, ended.acquired_at.after(held.ttl));
    let extended = backend.extend(&lock_of(&held), ttl(1_000)).await.unwrap();
    assert!(matches!(extended, ExtendOutcome::NotHeld(_)));
    assert!(backend.force_release(&held.key).await.unwrap().is_none());
    assert_eq!(acquire_and_release(&backend, "key").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_release_ends_a_grant_whose_holder_keeps_extending_it() {
    let scratch = Scratch::new();
    let (backend, operator) = (scratch.open().await, scratch.open().await);
    let held = request("key");
    granted(&backend, &held).await;
    let holder = tokio::spawn({
        let held = held.clone();
        async move {
            let mut next = 30_000;
            while let ExtendOutcome::Extended { .. } =
                backend.extend(&lock_of(&held), ttl(next)).await.unwrap()
            {
                next += 1;
            }
        }
    });
    let ended = loop {
        match operator.force_release(&key("key")).await {
            Ok(ended) => break ended.unwrap(),
            Err(error) => assert!(!error.may_have_applied() && error.is_retryable(), "{error}"),
        }
    };
    assert_eq!(ended.lock_id, held.lock_id);
    holder.await.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_acquired_again_is_listed_with_its_new_fence() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let first = request("key");
    granted(&backend, &first).await;
    release(&backend, &first).await;
    granted(&backend, &request("key")).await;
    let page = backend.list(&ListRequest::new("key")).await.unwrap();
    assert_eq!(page.locks.iter().map(|lock| lock.fence.number()).collect::<Vec<_>>(), [2]);
}
