//! The decision on a request.

use syncguard_core::{
    Fence, Holder, LockId, Timestamp,
    backend::{AcquireOutcome, AcquireRequest, Admission, Capabilities, Counters, Grant},
};

use crate::{error::Failure, key_state::KeyState};

/// What a request leads to, in one state of its key.
pub(crate) enum Decision {
    /// It has this outcome, and nothing is written.
    Final(AcquireOutcome),
    /// The key is granted exclusively. `counted` is the fence of its last grant.
    Grant { counted: Option<Fence> },
    /// The key is granted in shared mode, below this head if there is one.
    Share { head: Option<LockId>, fence: Fence, now: Timestamp },
    /// The request is refused because of shared holders, and its announcement is stored.
    Announce { fence: Option<Fence>, until: Timestamp, holder: Holder },
}

/// Decides on a request. A counter that cannot be read, or is at its limit, is detected here, before
/// anything is written.
pub(crate) fn decide(
    mut state: KeyState<'_>,
    request: &AcquireRequest,
    counters: Counters,
) -> Result<Decision, Failure> {
    if state.is_abandoned() {
        return Err(Failure::Abandoned);
    }
    let now = state.now;
    let contended = |holder| Ok(Decision::Final(AcquireOutcome::Contended { holder }));
    if let Some(lock) = state.exclusive() {
        let grant = Grant { fence: lock.fence, expires_at: lock.expires_at };
        if lock.lock_id == request.lock_id && !request.mode.is_shared() {
            return Ok(Decision::Final(AcquireOutcome::Granted(grant)));
        }
        let owner = lock.owner.clone();
        return contended(Some(Holder::new(grant, owner, now, Capabilities::GRACE)));
    }
    if request.mode.is_shared() {
        return match state.holders.admit(request.lock_id, request.mode, now)? {
            Admission::Held(grant) => Ok(Decision::Final(AcquireOutcome::Granted(grant))),
            Admission::Refused(holder) => contended(Some(holder)),
            Admission::Admitted => {
                let fence = state.next_fence(counters)?;
                Ok(Decision::Share { head: state.head(), fence, now })
            }
        };
    }
    if !state.holders.is_held(now) {
        state.next_fence(counters)?;
        return Ok(Decision::Grant { counted: state.counted()? });
    }
    let holder = state.holders.holder(request.mode, now);
    let until = request.announce.map(|announce| now.later_by(announce));
    match until.filter(|until| state.holders.announce(request.lock_id, *until)) {
        Some(until) => Ok(Decision::Announce { fence: state.counted()?, until, holder }),
        None => contended(Some(holder)),
    }
}
