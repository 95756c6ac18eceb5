//! Held locks are kept, however many acquires are in flight.

use std::time::Duration;

use firestore_emulator::{Fault, Rpc};
use syncguard_core::{ReleaseOutcome, backend::LockBackend};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, extended, granted, is_locked, key, lock_of, released,
};
use tokio::task::JoinSet;

use crate::{config, start};

/// The number of concurrent calls that the server allows on a connection, and a larger number of
/// acquires.
const STREAMS: usize = 100;
const ACQUIRES: usize = 250;

#[tokio::test]
async fn extends_and_releases_complete_while_acquires_fill_the_connection() {
    let emulator = start().await;
    let backend =
        FirestoreBackend::connect(config(&emulator).request_timeout(Duration::from_secs(120)))
            .unwrap();
    let requests: Vec<_> = ["one", "other", "third"].map(|text| ask(text, LONG)).into();
    for request in &requests {
        granted(&backend, request).await;
    }
    let before = emulator.calls().of(Rpc::BatchGetDocuments);
    let held = Fault::hold().on(Rpc::BatchGetDocuments).document("busy").times(ACQUIRES);
    let held = emulator.inject(held);
    let mut acquires = JoinSet::new();
    for _ in 0..ACQUIRES {
        let backend = backend.clone();
        acquires.spawn(async move { backend.acquire(&ask("busy", LONG)).await });
    }
    held.happened(STREAMS).await;
    let operations = async {
        for request in &requests {
            assert!(extended(&backend, request).await);
        }
        assert!(released(&backend, &requests[0]).await);
        backend.abandon(requests[1].lock_id, &requests[1].key).await.unwrap();
        assert!(backend.force_release(&key("third")).await.unwrap().is_some());
        let gone = backend.release(&lock_of(&requests[2])).await.unwrap();
        assert!(matches!(gone, ReleaseOutcome::NotHeld(_)));
    };
    tokio::time::timeout(Duration::from_secs(60), operations).await.unwrap();
    // The abandon, the forced release and the last release do not read on the common connection.
    let reads = emulator.calls().of(Rpc::BatchGetDocuments) - before;
    assert_eq!(reads, STREAMS as u64 + 3, "the other acquires are queued in the client");
    held.release();
    let granted = acquires.join_all().await.into_iter();
    assert!(granted.map(Result::unwrap).count() == ACQUIRES && is_locked(&backend, "busy").await);
}
