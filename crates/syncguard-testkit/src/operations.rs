//! Short words by which tests ask something of a backend.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::{fmt::Debug, time::Duration};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Error, ErrorKind, ExtendOutcome, Grant, LockBackend, LockId,
    LockKey, LockRef, ReleaseOutcome, Ttl,
};
use tokio::time::{Instant, sleep};

/// Long enough never to end within a test.
pub const LONG: Duration = Duration::from_secs(60);

/// How long something may take that comes about by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a key.
#[must_use]
pub fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

/// Makes a ttl.
#[must_use]
pub fn ttl(duration: Duration) -> Ttl {
    Ttl::new(duration).unwrap()
}

/// Asks for the key under a fresh id.
#[must_use]
pub fn ask(text: &str, duration: Duration) -> AcquireRequest {
    AcquireRequest::new(key(text), LockId::mint().unwrap(), ttl(duration))
}

/// Points at the grant of a request.
#[must_use]
pub fn lock_of(request: &AcquireRequest) -> LockRef {
    LockRef::new(request.lock_id, request.key.clone())
}

/// Gives the grant of a request that must be granted.
pub async fn granted(backend: &impl LockBackend, request: &AcquireRequest) -> Grant {
    match backend.acquire(request).await.unwrap() {
        AcquireOutcome::Granted(grant) => grant,
        AcquireOutcome::Contended { holder } => panic!("contended by {holder:?}"),
    }
}

/// Tells whether the key is refused to somebody else.
pub async fn is_contended(backend: &impl LockBackend, text: &str) -> bool {
    let outcome = backend.acquire(&ask(text, LONG)).await.unwrap();
    matches!(outcome, AcquireOutcome::Contended { .. })
}

/// Extends a grant, and tells whether it was held.
pub async fn extended(backend: &impl LockBackend, request: &AcquireRequest) -> bool {
    let outcome = backend.extend(&lock_of(request), ttl(LONG)).await.unwrap();
    matches!(outcome, ExtendOutcome::Extended { .. })
}

/// Releases a grant, and tells whether it was held.
pub async fn released(backend: &impl LockBackend, request: &AcquireRequest) -> bool {
    backend.release(&lock_of(request)).await.unwrap() == ReleaseOutcome::Released
}

/// Tells whether anybody holds the key.
pub async fn is_locked(backend: &impl LockBackend, text: &str) -> bool {
    backend.is_locked(&key(text)).await.unwrap()
}

/// Gives the error of what must fail in this way.
#[track_caller]
pub fn error_of<T: Debug>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    error
}

/// How often others are served while something [comes soon](soon), and the pause after each time.
const ROUNDS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for something that must have come about by the time at which others were served twenty times,
/// one after the other. That takes a second at least, and longer on a loaded machine, where everything
/// does.
pub async fn soon<T>(
    what: &str,
    work: impl Future<Output = T>,
    mut others: impl AsyncFnMut(),
) -> T {
    let rounds = async {
        for _ in 0..ROUNDS {
            others().await;
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = rounds => panic!("others were served {ROUNDS} times before {what}"),
    }
}

/// Waits for something that comes about by itself.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < patience, "it never came about that {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
