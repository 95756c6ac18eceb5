//! Detects whether an expiry was counted from too early a time, and writes a later one.

use std::time::Duration;

use syncguard_core::{
    Timestamp,
    backend::{AcquireRequest, Grant},
};

use crate::{client::Call, clock::Sent, error::Failure, grants::Known, store::Store};

/// How much earlier than its request a grant may be counted from: half of the
/// [grace](syncguard_core::backend::Capabilities::GRACE) for which its record is kept beyond the expiry.
const TOLERANCE: Duration = Duration::from_millis(500);

/// The time from which an expiry was counted, and what is known about when it was requested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpiryBase {
    /// The server's time, as a read returned it.
    pub(crate) from: Timestamp,
    /// When that read was requested, by the local clock.
    pub(crate) requested_at: Sent,
    /// The time from that request until the commit was sent.
    pub(crate) commit_delay: Duration,
}

impl ExpiryBase {
    /// Returns whether the server's clock showed more than `from` when the read was requested, or
    /// may have.
    ///
    /// The server promises that the time of a read is after its request. The time of the commit
    /// verifies this. The commit was made after it was sent, so the server's clock showed no more
    /// than that time less `commit_delay` when the read was requested; a difference of up to
    /// [`TOLERANCE`] does no harm. The commit was also made before its reply, so a difference
    /// greater than the time that has passed by then is a proof.
    pub(crate) fn may_be_too_early(self, committed: Timestamp) -> bool {
        is_too_early(
            self.from,
            committed,
            self.requested_at.elapsed().min(self.commit_delay + TOLERANCE),
        )
    }
}

/// Returns whether more time lies between `from` and a commit than can have passed.
pub(crate) fn is_too_early(from: Timestamp, committed: Timestamp, passed: Duration) -> bool {
    // Timestamps are rounded down, which takes a millisecond at most.
    let rounding = Duration::from_millis(1);
    committed.since(from) > passed + rounding
}

/// Returns whether a grant that was found on record, and was never extended, may be counted from
/// too early a time: more time than the grace covers passed between the time from which it is
/// counted and the commit that made it. When it was requested is not known here.
pub(crate) fn stored_may_be_too_early(acquired_at: Timestamp, made: Timestamp) -> bool {
    is_too_early(acquired_at, made, TOLERANCE)
}

/// Moves the expiry of a grant that was not reported yet to the ttl after the commit that made it.
///
/// That commit was made after the grant was requested, so the expiry is late enough. It is written
/// on the condition of the version, so that no other id was granted the key meanwhile, even if it
/// looked free.
///
/// If this fails, the grant stays as it was. The caller learns that the outcome is unknown, and
/// retries or abandons the id.
pub(crate) async fn recount(
    store: &Store,
    call: Call,
    request: &AcquireRequest,
    grant: Grant,
    known: Known,
) -> Result<Grant, Failure> {
    let unknown = |failure: Failure| Failure::HalfDone(failure.into());
    let expires_at = known.version.time().after(request.ttl);
    let write = known.set_expiry(request.lock_id, expires_at, known.version.time());
    let moved = store.client.commit(call, vec![write]).await.map_err(unknown)?;
    let version = moved.and_then(|moved| moved.versions.first().copied());
    let version = version.ok_or_else(|| unknown(Failure::Contention))?;
    store.grants.remember(request.lock_id, Known { version, expires_at, ..known });
    Ok(Grant { expires_at, ..grant })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::Timestamp;

    use super::is_too_early;

    #[test]
    fn an_expiry_is_too_early_only_if_the_commit_proves_it() {
        let at = Timestamp::from_unix_millis;
        let took = Duration::from_millis(30);
        assert!(!is_too_early(at(1_000), at(990), took), "the clock was thought to be ahead");
        assert!(!is_too_early(at(1_000), at(1_031), took), "it took that long");
        assert!(is_too_early(at(1_000), at(1_032), took), "it had been later all along");
    }
}
