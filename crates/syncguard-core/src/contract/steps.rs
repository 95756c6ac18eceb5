//! Steps that the cases share.

use std::time::Duration;

use super::Harness;
use crate::{
    BootClock, BootInstant, Clock, Error, ErrorKind, Holder, LockGuard, LockId, LockKey,
    LockManager, ReleaseOutcome, TryAcquireOutcome, Ttl,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, Grant, LockBackend, LockRef},
};

/// Long enough never to end within a case.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Short enough to wait for.
pub(super) const SHORT: Duration = Duration::from_millis(300);

/// Short enough to wait for, and long enough for renewals to be in time on a busy machine.
pub(super) const BRIEF: Duration = Duration::from_secs(3);

/// How long, in addition to the grace, a case waits before it relies on an expiry.
pub(super) const SLACK: Duration = Duration::from_millis(150);

/// How long a case waits for work in the background.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn key(text: &str) -> LockKey {
    LockKey::new(text).expect("the key is valid")
}

pub(super) fn ttl(duration: Duration) -> Ttl {
    Ttl::new(duration).expect("the ttl is valid")
}

pub(super) fn id() -> LockId {
    LockId::mint().expect("the system returns random bytes")
}

/// Requests the key under a fresh id.
pub(super) fn request_for(text: &str, duration: Duration) -> AcquireRequest {
    AcquireRequest::new(key(text), id(), ttl(duration))
}

/// Returns the grant of a request, with its key as a hint.
pub(super) fn lock_of(request: &AcquireRequest) -> LockRef {
    LockRef::new(request.lock_id, request.key.clone())
}

pub(super) async fn granted(backend: &impl LockBackend, request: &AcquireRequest) -> Grant {
    match backend.acquire(request).await.expect("the store answers") {
        AcquireOutcome::Granted(grant) => grant,
        AcquireOutcome::Contended { holder } => panic!("contended by {holder:?}"),
    }
}

pub(super) async fn contended(
    backend: &impl LockBackend,
    request: &AcquireRequest,
) -> Option<Holder> {
    match backend.acquire(request).await.expect("the store answers") {
        AcquireOutcome::Contended { holder } => holder,
        AcquireOutcome::Granted(grant) => panic!("granted as {grant:?}"),
    }
}

pub(super) async fn released(backend: &impl LockBackend, lock: LockRef) {
    let outcome = backend.release(&lock).await.expect("the store answers");
    assert_eq!(outcome, ReleaseOutcome::Released);
}

pub(super) async fn release_reports_not_held(backend: &impl LockBackend, lock: LockRef) {
    let outcome = backend.release(&lock).await.expect("the store answers");
    assert!(matches!(outcome, ReleaseOutcome::NotHeld(_)), "{outcome:?}");
}

pub(super) async fn extended(backend: &impl LockBackend, lock: LockRef, by: Duration) {
    let outcome = backend.extend(&lock, ttl(by)).await.expect("the store answers");
    assert!(matches!(outcome, ExtendOutcome::Extended { .. }), "{outcome:?}");
}

pub(super) async fn extend_reports_not_held(backend: &impl LockBackend, lock: LockRef) {
    let outcome = backend.extend(&lock, ttl(LONG)).await.expect("the store answers");
    assert!(matches!(outcome, ExtendOutcome::NotHeld(_)), "{outcome:?}");
}

pub(super) async fn is_locked(backend: &impl LockBackend, text: &str) -> bool {
    backend.is_locked(&key(text)).await.expect("the store answers")
}

/// Waits past the expiry and the grace of a grant that was made or extended just now for `ttl`.
pub(super) async fn expire<H: Harness>(harness: &H, backend: &impl LockBackend, ttl: Duration) {
    harness.advance(ttl + backend.capabilities().grace + SLACK).await;
}

/// Waits until a condition holds that work in the background brings about.
pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !holds().await {
        assert!(start.elapsed() < BACKGROUND_TIMEOUT, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until all background work is done.
pub(super) async fn drained(locks: &LockManager) {
    assert_eq!(locks.shutdown(BACKGROUND_TIMEOUT).await, crate::ShutdownOutcome::Drained);
}

/// Acquires a lock that is free. On a busy machine, a grant may arrive only after its deadline. The
/// lock layer then releases it and reports it as ambiguous, and it is requested again.
pub(super) async fn held(locks: &LockManager, text: &str, duration: Duration) -> LockGuard {
    let start = tokio::time::Instant::now();
    let attempt = loop {
        match locks.lock(text).ttl(duration).try_acquire().await {
            Err(late)
                if late.kind() == ErrorKind::Ambiguous && start.elapsed() < BACKGROUND_TIMEOUT =>
            {
                drained(locks).await;
            }
            result => break result.expect("the store answers"),
        }
    };
    attempt.acquired().expect("the lock is free")
}

/// Waits until a guard is lost, and asserts that it is lost in time. Its deadline is a margin
/// before the end of the ttl, counted from before its request was sent. So it is never valid that
/// long after its grant was received. The clock is read before the guard is checked, which makes
/// the assertion exact on a busy machine too.
pub(super) async fn lost_in_time(guard: &LockGuard, received: BootInstant, duration: Duration) {
    let latest = received + (duration - ttl(duration).margin());
    loop {
        let now = BootClock.now();
        if !guard.is_valid() {
            return;
        }
        assert!(now < latest, "valid at {now:?}, must be lost at {latest:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn error_of<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.err().expect("the call fails");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

pub(super) fn is_contended(attempt: &Result<TryAcquireOutcome, Error>) -> bool {
    matches!(attempt, Ok(TryAcquireOutcome::Contended(_)))
}
