//! Steps that the cases share.

use std::{future::Future, num::NonZeroU32, pin::Pin, time::Duration};

use tokio::time::timeout;

use super::{CaseOutcome, Harness};
use crate::{
    BootClock, BootInstant, Clock, Error, ErrorKind, Holder, LockGuard, LockId, LockKey,
    LockManager, ReleaseOutcome, TryAcquireOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, Grant, LockBackend, LockQuery, LockRecord,
        LockRef, Mode, WakeUp,
    },
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

pub(super) const NO_WAKE_UP: CaseOutcome =
    CaseOutcome::Skipped("the backend does not wake waiters");

pub(super) const NO_OPERATIONS: CaseOutcome =
    CaseOutcome::Skipped("the backend does not support the operations for operators");

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

/// Requests the key in shared mode under a fresh id.
pub(super) fn reader_for(text: &str, duration: Duration) -> AcquireRequest {
    request_for(text, duration).with_mode(Mode::SHARED)
}

/// Requests one of `permits` permits of the key under a fresh id.
pub(super) fn permit_for(text: &str, permits: u32, duration: Duration) -> AcquireRequest {
    request_for(text, duration).with_mode(Mode::Shared { permits: NonZeroU32::new(permits) })
}

/// Requests the key in exclusive mode under a fresh id, and announces it for `announce`.
pub(super) fn announced_for(text: &str, announce: Duration) -> AcquireRequest {
    request_for(text, LONG).with_announcement(Some(announce))
}

/// Connects two clients, if the backend grants shared mode.
pub(super) async fn sharing_clients<H: Harness>(
    harness: &H,
) -> Result<(H::Backend, H::Backend), CaseOutcome> {
    let client = harness.client().await;
    if !client.capabilities().shared {
        return Err(CaseOutcome::Skipped("the backend does not grant shared mode"));
    }
    Ok((client, harness.client().await))
}

/// Connects two clients, if the backend grants shared mode and notifies waiters of releases.
pub(super) async fn notified_clients<H: Harness>(
    harness: &H,
) -> Result<(H::Backend, H::Backend), CaseOutcome> {
    let (one, other) = sharing_clients(harness).await?;
    if one.capabilities().wake_up == WakeUp::None {
        return Err(NO_WAKE_UP);
    }
    Ok((one, other))
}

/// Connects two clients, if the backend grants shared mode and has the operations for operators.
pub(super) async fn operating_clients<H: Harness>(
    harness: &H,
) -> Result<(H::Backend, H::Backend), CaseOutcome> {
    let (one, other) = sharing_clients(harness).await?;
    if !one.capabilities().list {
        return Err(NO_OPERATIONS);
    }
    Ok((one, other))
}

/// Returns the grant of a request, with its key as a hint.
pub(super) fn lock_of(request: &AcquireRequest) -> LockRef {
    LockRef::new(request.lock_id, request.key.clone()).with_mode(request.mode)
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

/// Abandons the id of a request.
pub(super) async fn abandoned(backend: &impl LockBackend, request: &AcquireRequest) {
    backend.abandon(request.lock_id, &request.key).await.expect("the store answers");
}

/// Looks up a lock by its key or by the id of a holder.
pub(super) async fn found(
    backend: &impl LockBackend,
    query: impl Into<LockQuery>,
) -> Option<LockRecord> {
    backend.lookup(&query.into()).await.expect("the store answers")
}

/// Returns the record of a key that is held.
pub(super) async fn record_of(backend: &impl LockBackend, text: &str) -> LockRecord {
    found(backend, key(text)).await.expect("the key is held")
}

/// Returns the ids of those that share a key, in the order of their fences.
pub(super) async fn sharers_of(backend: &impl LockBackend, text: &str) -> Vec<LockId> {
    let holders = found(backend, key(text)).await.map(|record| record.holders);
    holders.unwrap_or_default().iter().map(|holder| holder.lock_id).collect()
}

pub(super) async fn is_locked(backend: &impl LockBackend, text: &str) -> bool {
    backend.is_locked(&key(text)).await.expect("the store answers")
}

/// Waits past the expiry and the grace of a grant that was made or extended just now for `ttl`.
pub(super) async fn expire<H: Harness>(harness: &H, backend: &impl LockBackend, ttl: Duration) {
    harness.advance(ttl + backend.capabilities().grace + SLACK).await;
}

/// Subscribes until a subscription stays pending. One may resolve spuriously, but not each of them.
pub(super) async fn pending_subscription<'a>(
    backend: &'a impl LockBackend,
    key: &'a LockKey,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    for _ in 0..10 {
        let mut woken = Box::pin(backend.released(key));
        if timeout(SHORT, &mut woken).await.is_err() {
            return woken;
        }
    }
    panic!("each subscription resolves although nothing is released");
}

/// Waits until a subscriber is notified.
pub(super) async fn notified(what: &str, woken: impl Future<Output = ()>) {
    timeout(LONG / 6, woken).await.unwrap_or_else(|_| panic!("{what} notifies no subscriber"));
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
