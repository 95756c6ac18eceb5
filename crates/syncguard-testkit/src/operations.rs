//! Short functions for the operations of a backend, for tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::{fmt::Debug, time::Duration};

use syncguard_core::{
    Error, ErrorKind, LockId, LockKey, ReleaseOutcome, Ttl,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, Grant, LockBackend, LockRef},
};
use tokio::time::{Instant, sleep};

/// Longer than any test runs.
pub const LONG: Duration = Duration::from_secs(60);

/// How long [`eventually`] waits.
const EVENTUALLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Creates a key.
#[must_use]
pub fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

/// Creates a ttl.
#[must_use]
pub fn ttl(duration: Duration) -> Ttl {
    Ttl::new(duration).unwrap()
}

/// Creates a request for the key under a new lock id.
#[must_use]
pub fn ask(text: &str, duration: Duration) -> AcquireRequest {
    AcquireRequest::new(key(text), LockId::mint().unwrap(), ttl(duration))
}

/// Returns a reference to the grant of a request.
#[must_use]
pub fn lock_of(request: &AcquireRequest) -> LockRef {
    LockRef::new(request.lock_id, request.key.clone()).with_mode(request.mode)
}

/// Acquires the lock and returns the grant. Panics if the lock is contended.
pub async fn granted(backend: &impl LockBackend, request: &AcquireRequest) -> Grant {
    match backend.acquire(request).await.unwrap() {
        AcquireOutcome::Granted(grant) => grant,
        AcquireOutcome::Contended { holder } => panic!("contended by {holder:?}"),
    }
}

/// Attempts to acquire the key under another lock id, and returns whether it is contended.
pub async fn is_contended(backend: &impl LockBackend, text: &str) -> bool {
    let outcome = backend.acquire(&ask(text, LONG)).await.unwrap();
    matches!(outcome, AcquireOutcome::Contended { .. })
}

/// Extends a grant, and returns whether it was held.
pub async fn extended(backend: &impl LockBackend, request: &AcquireRequest) -> bool {
    let outcome = backend.extend(&lock_of(request), ttl(LONG)).await.unwrap();
    matches!(outcome, ExtendOutcome::Extended { .. })
}

/// Releases a grant, and returns whether it was held.
pub async fn released(backend: &impl LockBackend, request: &AcquireRequest) -> bool {
    backend.release(&lock_of(request)).await.unwrap() == ReleaseOutcome::Released
}

/// Abandons a request as soon as the server can be reached.
pub async fn abandon_with_retries(backend: &impl LockBackend, request: &AcquireRequest) {
    while backend.abandon(request.lock_id, &request.key).await.is_err() {
        sleep(Duration::from_millis(2)).await;
    }
}

/// Returns whether the key is locked.
pub async fn is_locked(backend: &impl LockBackend, text: &str) -> bool {
    backend.is_locked(&key(text)).await.unwrap()
}

/// Returns the error of a result that must fail with this kind.
#[track_caller]
pub fn error_of<T: Debug>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}

/// How often others are served before [`soon`] fails, and the pause after each time.
const MAX_TURNS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for `work`, which must complete before `others` were served twenty times, one after the
/// other. That takes at least a second, and longer on a loaded machine, where `work` takes longer
/// too.
pub async fn soon<T>(
    what: &str,
    work: impl Future<Output = T>,
    mut others: impl AsyncFnMut(),
) -> T {
    let turns = async {
        for _ in 0..MAX_TURNS {
            others().await;
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = turns => panic!("others were served {MAX_TURNS} times before {what}"),
    }
}

/// Polls until the condition holds. Panics after twenty seconds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + EVENTUALLY_TIMEOUT;
    while !holds().await {
        assert!(Instant::now() < deadline, "it never came about that {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
