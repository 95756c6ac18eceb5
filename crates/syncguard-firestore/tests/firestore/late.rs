//! Commits that arrive late: after the id was abandoned, or after the grant has expired.

use std::time::Duration;

use firestore_emulator::{Concurrency, Emulator, Fault, Injection, Rpc};
use gcloud_sdk::tonic::Code;
use syncguard_core::{
    Error, ErrorKind, ReleaseOutcome,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, NotHeld},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, eventually, granted, is_locked, lock_of, released, ttl,
};
use tokio::task::JoinHandle;

use crate::{connect, raw, raw::Raw, start, start_as};

/// Starts an acquire whose commit has arrived at the server and is held there.
async fn hold_in_flight(
    emulator: &Emulator,
    backend: &FirestoreBackend,
    request: &AcquireRequest,
) -> (Injection, JoinHandle<Result<AcquireOutcome, Error>>) {
    let late = emulator.inject(Fault::hold().document(request.key.as_str()));
    let (backend, request) = (backend.clone(), request.clone());
    let acquiring = tokio::spawn(async move { backend.acquire(&request).await });
    late.happened(1).await;
    (late, acquiring)
}

#[tokio::test]
async fn a_late_commit_grants_a_lock_that_was_only_released() {
    let emulator = start().await;
    let (slow, fast) = (connect(&emulator), connect(&emulator));
    let request = ask("job", LONG);
    let (late, acquiring) = hold_in_flight(&emulator, &slow, &request).await;
    let outcome = fast.release(&lock_of(&request)).await.unwrap();
    assert_eq!(outcome, ReleaseOutcome::NotHeld(NotHeld::NotFound));
    late.release();
    drop(acquiring.await.unwrap().unwrap());
    assert!(is_locked(&fast, "job").await, "so calling off has to do more than that");
}

#[tokio::test]
async fn a_commit_that_arrives_after_its_abandon_fails_200_times() {
    for concurrency in [Concurrency::Pessimistic, Concurrency::Optimistic] {
        let emulator = start_as(concurrency).await;
        let (slow, fast) = (connect(&emulator), connect(&emulator));
        for round in 0..100 {
            // Some keys are new, others were locked before.
            let request = ask(&format!("k{}", round % 30), LONG);
            let (late, acquiring) = hold_in_flight(&emulator, &slow, &request).await;
            fast.abandon(request.lock_id, &request.key).await.unwrap();
            assert!(!acquiring.is_finished(), "it is still on its way");
            late.release();
            let error = error_of(acquiring.await.unwrap(), ErrorKind::Aborted);
            assert!(!error.may_have_applied());
            assert!(!is_locked(&fast, request.key.as_str()).await, "round {round}");
            let next = ask(request.key.as_str(), LONG);
            granted(&fast, &next).await;
            assert!(released(&fast, &next).await);
        }
    }
}

#[tokio::test]
async fn a_commit_of_a_dropped_acquire_that_arrives_after_its_abandon_fails() {
    let emulator = start().await;
    let (slow, fast) = (connect(&emulator), connect(&emulator));
    for round in 0..100 {
        let request = ask(&format!("k{}", round % 30), LONG);
        // Shows that the server has processed the commit, which no caller awaits any more.
        let processed = Fault::answer(Code::Unknown).document(request.key.as_str());
        let processed = emulator.inject(processed);
        let (late, acquiring) = hold_in_flight(&emulator, &slow, &request).await;
        acquiring.abort();
        assert!(acquiring.await.unwrap_err().is_cancelled());
        fast.abandon(request.lock_id, &request.key).await.unwrap();
        late.release();
        processed.happened(1).await;
        assert!(!is_locked(&fast, request.key.as_str()).await, "round {round}");
    }
}

/// A grant by TypeScript replaces the counter, and drops the tombstones with it.
#[tokio::test]
async fn a_late_commit_fails_even_if_a_peer_has_dropped_the_tombstone() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let request = ask("job", LONG);
    let processed = emulator.inject(Fault::answer(Code::Unknown).document("job"));
    let (late, acquiring) = hold_in_flight(&emulator, &backend, &request).await;
    acquiring.abort();
    assert!(acquiring.await.unwrap_err().is_cancelled());
    backend.abandon(request.lock_id, &request.key).await.unwrap();
    let counter = raw.read("fence_counters/fence:job").await.unwrap();
    assert_eq!(raw::tombstones(&counter), [request.lock_id.as_str()]);
    let fence = raw::text("000000000000001");
    let replaced = raw::record([("fence", fence), ("keyDebug", raw::text("job"))]);
    raw.set("fence_counters/fence:job", replaced).await.unwrap();
    late.release();
    processed.happened(1).await;
    assert!(!is_locked(&backend, "job").await);
}

#[tokio::test]
async fn abandoning_an_id_twice_changes_the_counter_twice() {
    let emulator = start().await;
    let (slow, fast) = (connect(&emulator), connect(&emulator));
    let request = ask("job", LONG);
    fast.abandon(request.lock_id, &request.key).await.unwrap();
    let other = ask("job", LONG);
    let (late, acquiring) = hold_in_flight(&emulator, &slow, &other).await;
    fast.abandon(request.lock_id, &request.key).await.unwrap();
    let before = emulator.calls().of(Rpc::Commit);
    late.release();
    assert!(matches!(acquiring.await.unwrap().unwrap(), AcquireOutcome::Granted(_)));
    let tries = emulator.calls().of(Rpc::Commit) - before;
    assert_eq!(tries, 1, "the first one failed, because the counter had changed");
}

/// Waits until the ttl of the grant and the grace have passed.
async fn wait_until_expired(backend: &FirestoreBackend) {
    eventually("the grant is over", async || !is_locked(backend, "job").await).await;
}

#[tokio::test]
async fn an_extend_that_is_applied_after_the_grant_expired_is_undone() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    let raw = Raw::connect(&emulator);
    for unreachable in [0, 3] {
        let request = ask("job", Duration::from_millis(200));
        granted(&mine, &request).await;
        let late = emulator.inject(Fault::hold().document("job"));
        let extending = tokio::spawn({
            let (mine, lock) = (mine.clone(), lock_of(&request));
            async move { mine.extend(&lock, ttl(LONG)).await.unwrap() }
        });
        late.happened(1).await;
        wait_until_expired(&theirs).await;
        // The commits that follow are to undo it.
        let refusals = Fault::refuse(Code::Unavailable).document("job").times(unreachable);
        let refusals = emulator.inject(refusals);
        late.release();
        let outcome = extending.await.unwrap();
        assert_eq!(outcome, ExtendOutcome::NotHeld(NotHeld::Expired));
        assert_eq!(refusals.hits(), unreachable);
        assert!(raw.read("locks/job").await.is_none(), "it was revived, and taken back");
    }
}

#[tokio::test]
async fn a_late_extend_is_undone_even_if_its_future_was_dropped() {
    let emulator = start().await;
    let (mine, raw) = (connect(&emulator), Raw::connect(&emulator));
    let request = ask("job", Duration::from_millis(200));
    granted(&mine, &request).await;
    let late = emulator.inject(Fault::hold().document("job"));
    let extending = tokio::spawn({
        let (mine, lock) = (mine.clone(), lock_of(&request));
        async move { mine.extend(&lock, ttl(LONG)).await }
    });
    late.happened(1).await;
    extending.abort();
    assert!(extending.await.unwrap_err().is_cancelled());
    wait_until_expired(&mine).await;
    late.release();
    eventually("it is taken back", async || raw.read("locks/job").await.is_none()).await;
}

#[tokio::test]
async fn a_release_that_is_applied_after_the_grant_expired_returns_expired() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    let request = ask("job", Duration::from_millis(200));
    granted(&mine, &request).await;
    let late = emulator.inject(Fault::hold().document("job"));
    let releasing = tokio::spawn({
        let (mine, lock) = (mine.clone(), lock_of(&request));
        async move { mine.release(&lock).await.unwrap() }
    });
    late.happened(1).await;
    wait_until_expired(&theirs).await;
    late.release();
    assert_eq!(releasing.await.unwrap(), ReleaseOutcome::NotHeld(NotHeld::Expired));
}
