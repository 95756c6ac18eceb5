//! Acquiring locks.

use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireOutcome, AcquireRequest, Mode},
};

use crate::store::Store;

/// Grants the key, or returns its holder.
pub(crate) fn acquire(store: &Store, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
    if request.mode != Mode::Exclusive {
        return Err(rejection(ErrorKind::Unsupported, "this backend does not grant shared mode"));
    }
    let mut slots = store.lock();
    let now = store.now();
    if slots.abandoned.contains_key(&request.lock_id) {
        return Err(rejection(ErrorKind::Aborted, "the id was abandoned"));
    }
    if let Some(slot) = slots.by_key.get(&request.key)
        && let Some(held) = slot.live(now)
    {
        return Ok(match held.lock_id == request.lock_id {
            true => AcquireOutcome::Granted(slot.grant(held)),
            false => AcquireOutcome::Contended { holder: Some(slot.holder(held, now)) },
        });
    }
    slots
        .grant(request, now)
        .ok_or_else(|| rejection(ErrorKind::Internal, "the fence counter is at its limit"))
}

fn rejection(kind: ErrorKind, detail: &'static str) -> Error {
    Error::new(kind).with_detail(detail).not_applied()
}
