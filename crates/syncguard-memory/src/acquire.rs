//! Acquiring locks.

use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireOutcome, AcquireRequest, Counters},
};

use crate::{rejection::rejection, store::Store};

/// Grants the key, or returns its holder.
pub(crate) fn acquire(
    store: &Store,
    request: &AcquireRequest,
    counters: Counters,
) -> Result<AcquireOutcome, Error> {
    let mut slots = store.lock();
    let now = store.now();
    if slots.abandoned.contains_key(&request.lock_id) {
        return Err(rejection(ErrorKind::Aborted, "the id was abandoned"));
    }
    if let Some(slot) = slots.by_key.get(&request.key) {
        if let Some(held) = slot.live(now) {
            let is_repeated = held.lock_id == request.lock_id && !request.mode.is_shared();
            return Ok(match is_repeated {
                true => AcquireOutcome::Granted(slot.grant(held)),
                false => AcquireOutcome::Contended { holder: Some(slot.holder(held, now)) },
            });
        }
        if let Some(shared) = slot.shared(now).filter(|_| !request.mode.is_shared()) {
            let holder = Some(shared.holder(request.mode, now));
            slots.announce(request, now);
            return Ok(AcquireOutcome::Contended { holder });
        }
    }
    if request.mode.is_shared() {
        return slots.share(request, counters, now);
    }
    slots
        .grant(request, counters, now)
        .ok_or_else(|| rejection(ErrorKind::Internal, "the fence counter is at its limit"))
}
