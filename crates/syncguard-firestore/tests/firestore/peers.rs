//! Transactions that another client keeps open on the documents of a key.

use std::time::Duration;

use firestore_emulator::{Emulator, Fault, Rpc};
use gcloud_sdk::tonic::Code;
use syncguard_core::{
    Error, ErrorKind, LockManager, TryAcquireOutcome,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, eventually, granted, is_locked, key, lock_of, ttl,
};

use crate::{
    config,
    raw::{Raw, integer, record, text},
};

/// The request timeout of these tests, and how long the server lets a commit wait.
const TIMEOUT: Duration = Duration::from_secs(4);
const LOCK_WAIT: Duration = Duration::from_secs(1);

const DOCUMENTS: [&str; 2] = ["locks/job", "fence_counters/fence:job"];

async fn started(lock_wait: Duration) -> (Emulator, FirestoreBackend, Raw) {
    let emulator = Emulator::builder().lock_wait(lock_wait).start().await.unwrap();
    let backend = FirestoreBackend::connect(config(&emulator).request_timeout(TIMEOUT)).unwrap();
    let raw = Raw::connect(&emulator);
    (emulator, backend, raw)
}

/// Asserts that at least one commit was sent, and at most as many as waits of the server fit into
/// the request timeout.
fn assert_commits(emulator: &Emulator, before: u64) {
    let commits = emulator.calls().of(Rpc::Commit) - before;
    let most = u64::try_from(TIMEOUT.as_millis() / LOCK_WAIT.as_millis()).unwrap();
    assert!((1..=most).contains(&commits), "{commits} commits");
}

#[tokio::test]
async fn an_acquire_beside_an_open_transaction_returns_contended_in_time() {
    let (emulator, backend, raw) = started(LOCK_WAIT).await;
    let transaction = raw.open_transaction(&DOCUMENTS).await;
    let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
    assert_eq!(outcome, AcquireOutcome::Contended { holder: None });
    assert_commits(&emulator, 0);
    let locks = LockManager::new(backend.clone());
    let attempt = locks.lock("job").try_acquire().await.unwrap();
    assert!(matches!(attempt, TryAcquireOutcome::Contended(None)));
    raw.roll_back(transaction).await;
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1, "none was applied");
}

#[tokio::test]
async fn a_grant_that_was_made_meanwhile_is_reported_as_the_holder() {
    let (emulator, backend, raw) = started(LONG).await;
    let held = emulator.inject(Fault::hold().document("job"));
    let lost = emulator.inject(Fault::answer(Code::Unavailable).document("job"));
    let request = ask("job", LONG);
    let grant = async {
        held.happened(1).await;
        let fence = || ("fence", text("000000000000001"));
        let lock = record([
            ("lockId", text("abcdefghijklmnopqrstuv")),
            ("expiresAtMs", integer(4_000_000_000_000)),
            ("acquiredAtMs", integer(1_000)),
            ("key", text("job")),
            fence(),
        ]);
        // The commits of this client name the fault's document as well, so the hold is used up
        // first.
        raw.set("fence_counters/fence:job", record([fence()])).await.unwrap();
        lock
    };
    let settle = async {
        let lock = grant.await;
        let setting = tokio::spawn({
            let raw = raw.clone();
            async move { raw.set("locks/job", lock).await }
        });
        held.release();
        drop(setting.await.unwrap());
    };
    let (outcome, ()) = tokio::join!(backend.acquire(&request), settle);
    assert_eq!(lost.hits(), 1, "one answer was lost");
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome.unwrap() else {
        panic!("the peer holds it")
    };
    assert_eq!(holder.fence.unwrap().number(), 1);
}

#[tokio::test]
async fn an_acquire_whose_commit_still_waits_may_yet_be_applied() {
    let (_emulator, backend, raw) = started(LONG).await;
    let transaction = raw.open_transaction(&DOCUMENTS).await;
    let error = backend.acquire(&ask("job", LONG)).await;
    assert!(error_of(error, ErrorKind::NetworkTimeout).may_have_applied());
    raw.roll_back(transaction).await;
    eventually("the commit is applied", async || is_locked(&backend, "job").await).await;
}

/// Asserts that an operation failed with an error that reports that nothing was written.
fn assert_not_applied<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = error_of(result, ErrorKind::ServiceUnavailable);
    assert!(error.is_retryable() && !error.may_have_applied(), "{error:?}");
}

#[tokio::test]
async fn every_other_operation_beside_an_open_transaction_fails_in_time() {
    let (emulator, backend, raw) = started(LOCK_WAIT).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    let lock = lock_of(&request);
    let transaction = raw.open_transaction(&DOCUMENTS).await;
    for operation in ["extend", "release", "abandon", "force_release"] {
        let before = emulator.calls().of(Rpc::Commit);
        match operation {
            "extend" => assert_not_applied(backend.extend(&lock, ttl(LONG)).await),
            "release" => assert_not_applied(backend.release(&lock).await),
            "abandon" => assert_not_applied(backend.abandon(request.lock_id, &request.key).await),
            _ => assert_not_applied(backend.force_release(&key("job")).await),
        }
        assert_commits(&emulator, before);
    }
    raw.roll_back(transaction).await;
    assert!(is_locked(&backend, "job").await, "none of them was applied");
    assert!(backend.extend(&lock, ttl(LONG)).await.is_ok());
}

#[tokio::test]
async fn a_guard_beside_an_open_transaction_keeps_its_lock_until_its_deadline() {
    let (_emulator, backend, raw) = started(LOCK_WAIT).await;
    let locks = LockManager::new(backend);
    let TryAcquireOutcome::Acquired(guard) =
        locks.lock("job").ttl(LONG).try_acquire().await.unwrap()
    else {
        panic!("it is free")
    };
    let transaction = raw.open_transaction(&DOCUMENTS).await;
    assert!(guard.extend(LONG).await.is_err());
    assert!(guard.is_valid(), "an extend that failed loses nothing");
    raw.roll_back(transaction).await;
    guard.extend(LONG).await.unwrap();
}
