//! The contract suite in both concurrency modes of the server; and what is special about Firestore: its
//! documents, its faults, its clock, its wake-ups, its other clients.

#![cfg(test)]

mod contention;
mod contract;
mod faults;
mod fencing;
mod late;
mod network;
mod raw;
mod skew;
mod storm;
mod tree;
mod trips;
mod wakeups;
mod wire;

use std::time::Duration;

use firestore_emulator::{Concurrency, Emulator};
use syncguard_core::{
    AcquireOutcome, AcquireRequest, Error, ErrorKind, ExtendOutcome, Grant, LockBackend, LockId,
    LockKey, LockRef, ReleaseOutcome, Ttl,
};
use syncguard_firestore::{FirestoreBackend, FirestoreConfig};

/// Long enough never to end within a test.
const LONG: Duration = Duration::from_secs(60);

const PROJECT: &str = "p";

async fn start() -> Emulator {
    start_as(Concurrency::Pessimistic).await
}

async fn start_as(concurrency: Concurrency) -> Emulator {
    Emulator::builder().concurrency(concurrency).start().await.unwrap()
}

fn config(emulator: &Emulator) -> FirestoreConfig {
    FirestoreConfig::new(PROJECT).emulator(emulator.address().to_string())
}

/// Gives a client with a connection of its own.
fn connect(emulator: &Emulator) -> FirestoreBackend {
    config(emulator).connect().unwrap()
}

fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

fn ttl(duration: Duration) -> Ttl {
    Ttl::new(duration).unwrap()
}

/// Asks for the key under a fresh id.
fn ask(text: &str, duration: Duration) -> AcquireRequest {
    AcquireRequest::new(key(text), LockId::mint().unwrap(), ttl(duration))
}

fn lock_of(request: &AcquireRequest) -> LockRef {
    LockRef::new(request.lock_id, request.key.clone())
}

async fn granted(backend: &FirestoreBackend, request: &AcquireRequest) -> Grant {
    match backend.acquire(request).await.unwrap() {
        AcquireOutcome::Granted(grant) => grant,
        AcquireOutcome::Contended { holder } => panic!("contended by {holder:?}"),
    }
}

async fn extended(backend: &FirestoreBackend, request: &AcquireRequest) -> bool {
    let outcome = backend.extend(&lock_of(request), ttl(LONG)).await.unwrap();
    matches!(outcome, ExtendOutcome::Extended { .. })
}

async fn released(backend: &FirestoreBackend, request: &AcquireRequest) -> bool {
    backend.release(&lock_of(request)).await.unwrap() == ReleaseOutcome::Released
}

async fn is_locked(backend: &FirestoreBackend, text: &str) -> bool {
    backend.is_locked(&key(text)).await.unwrap()
}

fn error_of<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}

/// Waits for something that comes about by itself.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < patience, "it never came about that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
