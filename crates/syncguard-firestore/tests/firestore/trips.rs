//! Round trips, as the server counts them.

use firestore_emulator::{Calls, Emulator, Rpc};
use syncguard_core::backend::{AcquireOutcome, LockBackend, LockRef};
use syncguard_testkit::operations::{LONG, ask, extended, granted, lock_of, released};

use crate::{connect, start};

/// Counts the requests of an operation, by method.
async fn counted(emulator: &Emulator, operation: impl Future<Output = ()>) -> [u64; 4] {
    let before = emulator.calls();
    operation.await;
    let calls: Calls = emulator.calls() - before;
    let [read, commit, query] =
        [Rpc::BatchGetDocuments, Rpc::Commit, Rpc::RunQuery].map(|rpc| calls.of(rpc));
    [read, commit, query, calls.total()]
}

#[tokio::test]
async fn acquire_is_two_round_trips_and_extend_and_release_one_each() {
    let emulator = start().await;
    let backend = connect(&emulator);
    for key in ["new", "new", "another"] {
        let request = ask(key, LONG);
        let acquire = async { _ = granted(&backend, &request).await };
        assert_eq!(counted(&emulator, acquire).await, [1, 1, 0, 2]);
        for _ in 0..3 {
            let extend = async { assert!(extended(&backend, &request).await) };
            assert_eq!(counted(&emulator, extend).await, [0, 1, 0, 1]);
        }
        let release = async { assert!(released(&backend, &request).await) };
        assert_eq!(counted(&emulator, release).await, [0, 1, 0, 1]);
    }
}

#[tokio::test]
async fn a_contended_acquire_is_one_round_trip_and_writes_nothing() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let held = ask("job", LONG);
    granted(&backend, &held).await;
    let contend = async {
        let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
        assert!(matches!(outcome, AcquireOutcome::Contended { .. }));
    };
    assert_eq!(counted(&emulator, contend).await, [1, 0, 0, 1]);
    let again = async { _ = granted(&backend, &held).await };
    assert_eq!(counted(&emulator, again).await, [1, 0, 0, 1], "the stored grant");
}

#[tokio::test]
async fn a_client_that_does_not_know_the_grant_reads_first() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    let request = ask("job", LONG);
    granted(&mine, &request).await;
    let by_key = async { assert!(extended(&theirs, &request).await) };
    assert_eq!(counted(&emulator, by_key).await, [1, 1, 0, 2]);
    let known_by_now = async { assert!(extended(&theirs, &request).await) };
    assert_eq!(counted(&emulator, known_by_now).await, [0, 1, 0, 1]);
    let outdated = async { assert!(extended(&mine, &request).await) };
    assert_eq!(counted(&emulator, outdated).await, [1, 2, 0, 3]);
    let third = connect(&emulator);
    let by_id = async { _ = third.release(&LockRef::from(request.lock_id)).await.unwrap() };
    assert_eq!(counted(&emulator, by_id).await, [0, 1, 1, 2]);
}

#[tokio::test]
async fn abandon_is_two_round_trips_and_lookup_is_one() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    let by_key = async { drop(backend.lookup(&request.key.clone().into()).await.unwrap()) };
    assert_eq!(counted(&emulator, by_key).await, [1, 0, 0, 1]);
    let by_id = async { drop(backend.lookup(&request.lock_id.into()).await.unwrap()) };
    assert_eq!(counted(&emulator, by_id).await, [0, 0, 1, 1]);
    let abandon = async { backend.abandon(request.lock_id, &request.key).await.unwrap() };
    assert_eq!(counted(&emulator, abandon).await, [1, 1, 0, 2]);
    let nothing = async { _ = backend.release(&lock_of(&request)).await.unwrap() };
    // The id decides, not the key: a lock that is not directly in the collection may be below one
    // of its documents.
    assert_eq!(counted(&emulator, nothing).await, [1, 0, 2, 3]);
}
