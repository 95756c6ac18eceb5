//! Fence counters that are deleted, decreased or damaged.

use firestore_emulator::Fault;
use syncguard_core::{
    ErrorKind,
    backend::{ExtendOutcome, LockBackend, Severity},
};
use syncguard_testkit::operations::{
    LONG, ask, error_of, eventually, granted, is_locked, key, lock_of, released, ttl,
};

use crate::{
    connect,
    raw::{Raw, record, text},
    start,
};

const COUNTER: &str = "fence_counters/fence:job";

#[tokio::test]
async fn a_counter_that_is_deleted_or_restored_beside_its_lock_is_detected_and_no_fence_repeats() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for _ in 0..3 {
        let request = ask("job", LONG);
        granted(&backend, &request).await;
        assert!(released(&backend, &request).await);
    }
    // The holder does not release it, so the lock stays on record after it expires.
    let expired = ask("job", std::time::Duration::from_millis(1));
    assert_eq!(granted(&backend, &expired).await.fence.number(), 4);
    eventually("it is over", async || !is_locked(&backend, "job").await).await;
    let counter = raw.read(COUNTER).await.unwrap();
    let older = record([("fence", text("000000000000003")), ("keyDebug", text("job"))]);
    for damaged in [None, Some(older)] {
        match damaged.clone() {
            None => raw.delete(COUNTER).await,
            Some(older) => raw.set(COUNTER, older).await.unwrap(),
        }
        let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied() && error.to_string().contains("fence"), "{error}");
        assert_eq!(raw.read(COUNTER).await, damaged, "nothing was written");
        let findings = backend.check().await.unwrap();
        let lost = findings.iter().find(|finding| finding.severity == Severity::Unsafe).unwrap();
        assert!(lost.setting.contains("1 locks"), "{lost}");
    }
    raw.set(COUNTER, counter).await.unwrap();
    assert_eq!(backend.check().await.unwrap(), []);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 5);
}

/// The limit of what can be detected, and the reason why counters must not be deleted.
#[tokio::test]
async fn a_counter_that_is_deleted_without_its_lock_starts_again_at_one() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
    raw.delete(COUNTER).await;
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1);
}

#[tokio::test]
async fn an_abandon_creates_a_missing_counter_from_the_fence_of_the_lock() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for _ in 0..2 {
        let request = ask("job", LONG);
        granted(&backend, &request).await;
        assert!(released(&backend, &request).await);
    }
    let held = ask("job", LONG);
    assert_eq!(granted(&backend, &held).await.fence.number(), 3);
    raw.delete(COUNTER).await;
    backend.abandon(ask("job", LONG).lock_id, &key("job")).await.unwrap();
    assert!(released(&backend, &held).await);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 4);
}

#[tokio::test]
async fn an_invalid_counter_is_an_error_before_anything_is_stored() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for garbage in ["", "7", "-00000000000007", "nonsense", "1e5"] {
        raw.set(COUNTER, record([("fence", text(garbage))])).await.unwrap();
        let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied() && !is_locked(&backend, "job").await, "{garbage}");
        assert_eq!(raw.read(COUNTER).await.unwrap()["fence"], text(garbage));
    }
}

/// While the commit of a grant is in flight, another client acquires first. Then the lock alone is
/// written, as by a server that applies a commit in part.
#[tokio::test]
async fn a_partially_applied_grant_is_not_accepted() {
    let emulator = start().await;
    let (backend, theirs, raw) = (connect(&emulator), connect(&emulator), Raw::connect(&emulator));
    let (request, other) = (ask("job", LONG), ask("job", LONG));
    let held = emulator.inject(Fault::hold().document("job"));
    let acquiring = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { backend.acquire(&request).await }
    });
    held.happened(1).await;
    assert_eq!(granted(&theirs, &other).await.fence.number(), 1);
    let mut lock = raw.read("locks/job").await.unwrap();
    assert!(released(&theirs, &other).await);
    lock.insert("lockId".to_owned(), text(request.lock_id.as_str()));
    raw.set("locks/job", lock).await.unwrap();
    held.release();
    let error = error_of(acquiring.await.unwrap(), ErrorKind::Internal);
    assert!(error.may_have_applied(), "{error:?}: so the id is abandoned");
    assert!(backend.acquire(&request).await.is_err(), "nor is it when asked again");
    backend.abandon(request.lock_id, &request.key).await.unwrap();
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 2);
}

#[tokio::test]
async fn a_grant_that_its_counter_does_not_confirm_is_not_accepted() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for damaged in [None, Some("000000000000000"), Some("nonsense")] {
        let request = ask("job", LONG);
        let fence = granted(&backend, &request).await.fence;
        assert_eq!(granted(&connect(&emulator), &request).await.fence, fence);
        raw.delete(COUNTER).await;
        if let Some(damaged) = damaged {
            raw.set(COUNTER, record([("fence", text(damaged))])).await.unwrap();
        }
        let error = error_of(backend.acquire(&request).await, ErrorKind::Internal);
        assert!(error.may_have_applied(), "{damaged:?}: {error:?}");
        assert!(released(&backend, &request).await);
        raw.delete(COUNTER).await;
    }
}

/// As if the reply to a commit was lost while the abandon of an earlier attempt was in flight.
#[tokio::test]
async fn a_grant_is_accepted_although_another_id_was_abandoned_since() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let (request, other) = (ask("job", LONG), ask("job", LONG));
    let fence = granted(&backend, &request).await.fence;
    backend.abandon(other.lock_id, &other.key).await.unwrap();
    assert_eq!(granted(&connect(&emulator), &request).await.fence, fence);
}

#[tokio::test]
async fn an_extended_grant_is_accepted_although_its_lock_has_a_later_version() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    let fence = granted(&backend, &request).await.fence;
    for asked in [ttl(LONG / 2), request.ttl] {
        let extended = backend.extend(&lock_of(&request), asked).await.unwrap();
        assert!(matches!(extended, ExtendOutcome::Extended { .. }));
        assert_eq!(granted(&connect(&emulator), &request).await.fence, fence);
    }
    let raw = Raw::connect(&emulator);
    raw.set(COUNTER, record([("fence", text("000000000000000"))])).await.unwrap();
    let error = error_of(backend.acquire(&request).await, ErrorKind::Internal);
    assert!(error.may_have_applied(), "nor then, if its counter is behind it: {error:?}");
}
