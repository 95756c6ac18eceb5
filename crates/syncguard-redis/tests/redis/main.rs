//! The contract suite on a single server, with and without grace, and on a cluster; and what is
//! special about Redis: its stored formats, its faults, its wake-ups.

#![cfg(test)]

mod cluster;
mod contract;
mod failover;
mod heard;
mod network;
mod server;
mod settings;
mod wakeups;
mod wire;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Error, ErrorKind, ExtendOutcome, Grant, LockBackend, LockId,
    LockKey, LockRef, ReleaseOutcome, Ttl,
};
use syncguard_redis::{RedisBackend, RedisConfig};
use syncguard_tests::server::{Builder, Redis, RedisServer};

/// Long enough never to end within a test.
const LONG: Duration = Duration::from_secs(60);

/// Describes a server that a lock may be kept on.
fn safe() -> Builder<Redis> {
    RedisServer::builder().setting("appendonly", "yes").setting("save", "")
}

async fn connect(url: &str) -> RedisBackend {
    config(url).connect().await.unwrap()
}

fn config(url: &str) -> RedisConfig {
    RedisConfig::from_url(url).unwrap()
}

/// Gives a prefix that no other test uses.
fn fresh_prefix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed))
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

async fn granted(backend: &RedisBackend, request: &AcquireRequest) -> Grant {
    match backend.acquire(request).await.unwrap() {
        AcquireOutcome::Granted(grant) => grant,
        AcquireOutcome::Contended { holder } => panic!("contended by {holder:?}"),
    }
}

async fn is_contended(backend: &RedisBackend, text: &str) -> bool {
    let outcome = backend.acquire(&ask(text, LONG)).await.unwrap();
    matches!(outcome, AcquireOutcome::Contended { .. })
}

async fn extended(backend: &RedisBackend, request: &AcquireRequest) -> bool {
    let outcome = backend.extend(&lock_of(request), ttl(LONG)).await.unwrap();
    matches!(outcome, ExtendOutcome::Extended { .. })
}

async fn released(backend: &RedisBackend, request: &AcquireRequest) -> bool {
    backend.release(&lock_of(request)).await.unwrap() == ReleaseOutcome::Released
}

async fn is_locked(backend: &RedisBackend, text: &str) -> bool {
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
