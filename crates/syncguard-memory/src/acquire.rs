//! Acquiring locks.

use syncguard_core::{AcquireOutcome, AcquireRequest, Error, ErrorKind, Mode, Operation};

use crate::store::Store;

/// Grants the key, or returns its holder.
pub(crate) fn acquire(store: &Store, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
    if request.mode != Mode::Exclusive {
        return Err(refused(ErrorKind::Unsupported, request).with_detail("shared mode"));
    }
    let mut slots = store.lock();
    let now = store.now();
    if slots.abandoned.contains_key(&request.lock_id) {
        return Err(refused(ErrorKind::Aborted, request).with_detail("the id was abandoned"));
    }
    if let Some(slot) = slots.by_key.get(&request.key)
        && let Some(held) = slot.live(now)
    {
        return Ok(match held.lock_id == request.lock_id {
            true => AcquireOutcome::Granted(slot.grant(held)),
            false => AcquireOutcome::Contended { holder: Some(slot.holder(held, now)) },
        });
    }
    slots.grant(request, now).ok_or_else(|| {
        refused(ErrorKind::Internal, request).with_detail("the fence counter is at its limit")
    })
}

fn refused(kind: ErrorKind, request: &AcquireRequest) -> Error {
    Error::new(kind, Operation::Acquire)
        .with_key(&request.key)
        .with_lock_id(request.lock_id)
        .not_applied()
}
