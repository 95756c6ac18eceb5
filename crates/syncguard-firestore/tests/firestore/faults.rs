//! Commits that are applied although the reply is lost, and commits that the service refuses.

use std::time::Duration;

use firestore_emulator::{Emulator, Fault, Rpc};
use gcloud_sdk::tonic::Code;
use syncguard_core::{
    ErrorKind, LockGuard, LockManager, ReleaseOutcome, ShutdownOutcome, TryAcquireOutcome,
    backend::{LockBackend, NotHeld},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, extended, granted, is_locked, lock_of, released, ttl,
};

use crate::{config, connect, raw::Raw, start};

/// Long enough for all background work to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// Acquires a lock whose first commit is applied, but whose reply is lost.
async fn acquire_with_lost_reply(
    locks: &LockManager,
    emulator: &Emulator,
    key: &str,
    lost: Fault,
) -> LockGuard {
    let lost = emulator.inject(lost.document(key));
    let attempt = locks.lock(key).ttl(LONG).try_acquire().await;
    let TryAcquireOutcome::Acquired(guard) = attempt.unwrap() else {
        panic!("contended by its own lock")
    };
    assert_eq!(lost.hits(), 1, "the reply was lost");
    guard
}

/// Loses the reply to each grant, and asserts that each uses one fence and leaves nothing behind.
async fn lose_replies_to_grants(grants: u64, clients: u64, lost: fn() -> Fault) {
    let emulator = start().await;
    let mut tasks = tokio::task::JoinSet::new();
    let emulator = std::sync::Arc::new(emulator);
    for client in 0..clients {
        let emulator = emulator.clone();
        tasks.spawn(async move {
            let (locks, key) = (LockManager::new(connect(&emulator)), format!("k{client}"));
            for grant in 1..=grants / clients {
                let guard = acquire_with_lost_reply(&locks, &emulator, &key, lost()).await;
                assert_eq!(guard.fence().unwrap().number(), grant, "one fence for each grant");
                guard.release().await.unwrap();
            }
            assert_eq!(locks.shutdown(SHUTDOWN_TIMEOUT).await, ShutdownOutcome::Drained);
        });
    }
    tasks.join_all().await;
    let raw = Raw::connect(&emulator);
    assert_eq!(raw.ids("locks").await, Vec::<String>::new(), "nothing is left behind");
    assert_eq!(raw.ids("fence_counters").await.len() as u64, clients);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_grants_whose_connection_is_cut_are_recovered_and_leave_nothing_behind() {
    lose_replies_to_grants(500, 4, Fault::drop_reply).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_are_answered_with_an_error_are_recovered_and_leave_nothing_behind() {
    lose_replies_to_grants(100, 2, || Fault::answer(Code::DeadlineExceeded)).await;
    lose_replies_to_grants(100, 2, || Fault::answer(Code::Unavailable)).await;
    lose_replies_to_grants(20, 2, || Fault::answer(Code::Internal)).await;
}

#[tokio::test]
async fn an_extend_or_a_release_without_a_reply_may_have_applied_and_can_be_retried() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown] {
        let lost = emulator.inject(Fault::answer(code).document("job"));
        let error = backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap_err();
        assert!(lost.hits() == 1 && error.may_have_applied() && error.is_retryable(), "{error:?}");
        assert!(extended(&backend, &request).await);
    }
    let lost = emulator.inject(Fault::answer(Code::Unavailable).document("job"));
    let error = backend.release(&lock_of(&request)).await.unwrap_err();
    assert!(lost.hits() == 1 && error.may_have_applied(), "{error:?}");
    let outcome = backend.release(&lock_of(&request)).await.unwrap();
    assert_eq!(outcome, ReleaseOutcome::NotHeld(NotHeld::NotFound), "it had been made");
}

#[tokio::test]
async fn a_request_that_the_service_refuses_was_not_applied() {
    let emulator = start().await;
    let backend = FirestoreBackend::connect(config(&emulator)).unwrap();
    for (code, kind) in [
        (Code::PermissionDenied, ErrorKind::AuthFailed),
        (Code::Unauthenticated, ErrorKind::AuthFailed),
        (Code::ResourceExhausted, ErrorKind::RateLimited),
        (Code::InvalidArgument, ErrorKind::Internal),
    ] {
        let refused = emulator.inject(Fault::refuse(code).document("job"));
        let error = error_of(backend.acquire(&ask("job", LONG)).await, kind);
        assert!(refused.hits() == 1 && !error.may_have_applied(), "{error:?}");
        let unread = emulator.inject(Fault::refuse(code).on(Rpc::BatchGetDocuments));
        let error = error_of(backend.acquire(&ask("job", LONG)).await, kind);
        assert!(unread.hits() == 1 && !error.may_have_applied(), "{error:?}");
    }
    assert!(!is_locked(&backend, "job").await);
}

const CODES: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

#[tokio::test]
async fn a_stored_grant_is_found_and_returned_whatever_code_its_commit_reports() {
    let emulator = start().await;
    let backend = connect(&emulator);
    for code in CODES {
        let request = ask(&format!("{code:?}"), LONG);
        let lost = emulator.inject(Fault::answer(code).document(request.key.as_str()));
        let grant = granted(&backend, &request).await;
        assert_eq!((lost.hits(), grant.fence.number()), (1, 1), "{code:?}");
        assert!(released(&backend, &request).await);
    }
}

/// Omits the codes with which the service reports a conflict with another commit: these codes alone
/// prove that nothing was written.
#[tokio::test]
async fn no_error_reports_a_stored_grant_as_not_applied() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let conflicts = [Code::NotFound, Code::AlreadyExists, Code::FailedPrecondition, Code::Aborted];
    for code in CODES.into_iter().filter(|code| !conflicts.contains(code)) {
        let request = ask(&format!("{code:?}"), LONG);
        let text = request.key.as_str();
        let held = emulator.inject(Fault::hold().document(text));
        let lost = emulator.inject(Fault::answer(code).document(text));
        let then = async {
            held.happened(1).await;
            let unread = Fault::refuse(Code::PermissionDenied).on(Rpc::BatchGetDocuments);
            let unread = emulator.inject(unread.document(text));
            held.release();
            unread
        };
        let (outcome, unread) = tokio::join!(backend.acquire(&request), then);
        assert_eq!((lost.hits(), unread.hits()), (1, 1), "{code:?}");
        assert!(outcome.unwrap_err().may_have_applied(), "{code:?}");
        assert!(is_locked(&backend, text).await, "{code:?}");
    }
}

#[tokio::test]
async fn no_error_reports_a_stored_expiry_as_not_applied() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    for code in CODES {
        assert!(extended(&backend, &request).await);
        let lost = emulator.inject(Fault::answer(code).document("job"));
        // If the code reports a conflict, the extend reads the lock and tries again.
        if let Err(error) = backend.extend(&lock_of(&request), ttl(LONG)).await {
            assert!(error.may_have_applied(), "{code:?}");
        }
        assert_eq!(lost.hits(), 1, "{code:?}");
    }
}
