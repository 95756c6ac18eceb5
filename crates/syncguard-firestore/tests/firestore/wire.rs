//! The stored documents, field by field.

use gcloud_sdk::tonic::Code;
use syncguard_core::{
    ErrorKind, Owner, ReleaseOutcome,
    backend::{AcquireOutcome, ExtendOutcome, LockBackend, LockRef},
};
use syncguard_testkit::operations::{
    LONG, ask, error_of, extended, granted, is_locked, key, lock_of, released, ttl,
};

use crate::{
    connect,
    raw::{Fields, Raw, double, integer, now_ms, record, text, tombstone, tombstones},
    start,
};

const ID: &str = "abcdefghijklmnopqrstuv";

/// A lock as the TypeScript client writes it.
fn typescript_lock(expires: i64) -> Fields {
    record([
        ("lockId", text(ID)),
        ("expiresAtMs", integer(expires)),
        ("acquiredAtMs", integer(expires - 30_000)),
        ("key", text("job")),
        ("fence", text("000000000000005")),
    ])
}

async fn set_counter(raw: &Raw, fence: &str) {
    let counter = record([("fence", text(fence)), ("keyDebug", text("job"))]);
    raw.set("fence_counters/fence:job", counter).await.unwrap();
}

#[tokio::test]
async fn stored_documents_have_the_documented_format() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let text_of_key = "a\"b\\c\u{0}d é";
    let owner = Owner::new("web-3 \"blue\"").unwrap();
    let request = ask(text_of_key, LONG).with_owner(Some(owner));
    let grant = granted(&backend, &request).await;
    let expires = grant.expires_at.unix_millis();
    let expected = |expires: i64| {
        record([
            ("lockId", text(request.lock_id.as_str())),
            ("expiresAtMs", integer(expires)),
            ("acquiredAtMs", integer(grant.expires_at.unix_millis() - 60_000)),
            ("key", text(text_of_key)),
            ("fence", text("000000000000001")),
            ("owner", text("web-3 \"blue\"")),
        ])
    };
    let (lock, counter) =
        (format!("locks/{text_of_key}"), format!("fence_counters/fence:{text_of_key}"));
    assert_eq!(raw.read(&lock).await.unwrap(), expected(expires));
    let first = record([("fence", text("000000000000001")), ("keyDebug", text(text_of_key))]);
    assert_eq!(raw.read(&counter).await.unwrap(), first);
    let moved = backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    let ExtendOutcome::Extended { expires_at } = moved else { panic!("{moved:?}") };
    assert_eq!(raw.read(&lock).await.unwrap(), expected(expires_at.unix_millis()));
    assert!(released(&backend, &request).await);
    assert!(raw.read(&lock).await.is_none());
    assert_eq!(raw.read(&counter).await.unwrap(), first);
}

#[tokio::test]
async fn a_lock_of_typescript_is_honoured_with_integer_and_with_double_times() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let expires = now_ms() + 30_000;
    let mut floating = typescript_lock(expires);
    floating.insert("expiresAtMs".to_owned(), double(expires as f64));
    for lock in [typescript_lock(expires), floating] {
        raw.set("locks/job", lock).await.unwrap();
        set_counter(&raw, "000000000000005").await;
        let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
        let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { panic!() };
        assert_eq!((holder.fence.unwrap().number(), holder.owner), (5, None));
        let id = ID.parse().unwrap();
        let found = backend.lookup(&key("job").into()).await.unwrap().unwrap();
        assert_eq!((found.lock_id, found.expires_at.unix_millis()), (id, expires));
        assert_eq!(backend.lookup(&id.into()).await.unwrap().unwrap().fence.number(), 5);
        let stranger = LockRef::new("-".repeat(22).parse().unwrap(), key("job"));
        assert!(matches!(backend.release(&stranger).await.unwrap(), ReleaseOutcome::NotHeld(_)));
        let moved = backend.extend(&id.into(), ttl(LONG)).await.unwrap();
        assert!(matches!(moved, ExtendOutcome::Extended { .. }));
        assert_eq!(backend.release(&id.into()).await.unwrap(), ReleaseOutcome::Released);
        assert_eq!(raw.ids("locks").await, Vec::<String>::new());
    }
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 6);
}

#[tokio::test]
async fn an_extend_keeps_unknown_fields_and_succeeds_after_an_extend_by_a_peer() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    let mut fields = raw.read("locks/job").await.unwrap();
    fields.insert("trace".to_owned(), text("t"));
    fields.insert("expiresAtMs".to_owned(), integer(now_ms() + 90_000));
    raw.set("locks/job", fields.clone()).await.unwrap();
    assert!(extended(&backend, &request).await, "the version that it knew is gone");
    let stored = raw.read("locks/job").await.unwrap();
    assert_ne!(stored["expiresAtMs"], fields["expiresAtMs"]);
    fields.insert("expiresAtMs".to_owned(), stored["expiresAtMs"].clone());
    assert_eq!(stored, fields);
    assert!(released(&backend, &request).await);
}

#[tokio::test]
async fn tombstones_are_kept_by_a_grant_and_pruned_after_an_hour() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let ids = [ask("job", LONG), ask("job", LONG)].map(|request| request.lock_id);
    for id in ids {
        backend.abandon(id, &key("job")).await.unwrap();
    }
    let counter = raw.read("fence_counters/fence:job").await.unwrap();
    assert_eq!(counter["fence"], text("000000000000000"));
    assert_eq!(counter["keyDebug"], text("job"));
    let request = ask("job", LONG);
    assert_eq!(granted(&backend, &request).await.fence.number(), 1);
    assert!(released(&backend, &request).await);
    let mut counter = raw.read("fence_counters/fence:job").await.unwrap();
    let mut kept = tombstones(&counter);
    kept.sort();
    let mut expected = ids.map(|id| id.as_str().to_owned());
    expected.sort();
    assert_eq!(kept, expected);
    let old = tombstone(ids[0].as_str(), now_ms() - 3_600_001);
    counter.insert("abandoned".to_owned(), old);
    raw.set("fence_counters/fence:job", counter).await.unwrap();
    granted(&backend, &ask("job", LONG)).await;
    let counter = raw.read("fence_counters/fence:job").await.unwrap();
    assert_eq!((tombstones(&counter), counter.len()), (Vec::new(), 2));
}

#[tokio::test]
async fn a_document_that_is_not_a_lock_is_an_error_and_is_left_unchanged() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let whole = typescript_lock(now_ms() + 30_000);
    for field in ["lockId", "expiresAtMs", "acquiredAtMs", "key", "fence"] {
        let mut garbage = whole.clone();
        garbage.remove(field);
        raw.set("locks/job", garbage.clone()).await.unwrap();
        let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied(), "{error:?}");
        assert_eq!(raw.read("locks/job").await.unwrap(), garbage);
    }
}

#[tokio::test]
async fn a_key_that_is_not_a_valid_document_id_is_stored_under_its_hash() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for plain in ["a/b", ".", "..", "__x__"] {
        let refused = raw.set(&format!("locks/{plain}"), Fields::new()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{plain}");
        let request = ask(plain, LONG);
        assert_eq!(granted(&backend, &request).await.fence.number(), 1);
        let ids = raw.ids("locks").await;
        assert_eq!((ids.len(), ids[0].len()), (1, 22), "{ids:?}");
        let lock = raw.read(&format!("locks/{}", ids[0])).await.unwrap();
        assert_eq!(lock["key"], text(plain), "the key itself is a field");
        let counter = raw.read(&format!("fence_counters/fence:{}", ids[0])).await.unwrap();
        assert_eq!(counter["fence"], text("000000000000001"));
        assert!(released(&backend, &request).await && !is_locked(&backend, plain).await);
    }
}
