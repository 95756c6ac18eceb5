use syncguard_core::{
    AcquireOutcome, AcquireRequest, Error, ErrorKind, Fence, Mode, Operation, Timestamp,
};

use crate::{
    MemoryBackend,
    slots::{Held, Slot, Slots},
};

impl MemoryBackend {
    pub(crate) fn acquire_now(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        if request.mode != Mode::Exclusive {
            return Err(refused(ErrorKind::Unsupported, request).with_detail("shared mode"));
        }
        let mut slots = self.lock();
        let now = self.now();
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
}

impl Slots {
    fn grant(&mut self, request: &AcquireRequest, now: Timestamp) -> Option<AcquireOutcome> {
        let last = self.by_key.get(&request.key).map_or(Fence::ZERO, |slot| slot.fence);
        let held = Held {
            lock_id: request.lock_id,
            owner: request.owner.clone(),
            acquired_at: now,
            expires_at: now.after(request.ttl),
        };
        let slot = Slot { fence: last.next()?, held: Some(held.clone()) };
        let granted = AcquireOutcome::Granted(slot.grant(&held));
        let before = self.by_key.insert(request.key.clone(), slot);
        if let Some(expired) = before.and_then(|slot| slot.held) {
            self.by_id.remove(&expired.lock_id);
        }
        self.by_id.insert(request.lock_id, request.key.clone());
        Some(granted)
    }
}

fn refused(kind: ErrorKind, request: &AcquireRequest) -> Error {
    Error::new(kind, Operation::Acquire)
        .with_key(&request.key)
        .with_lock_id(request.lock_id)
        .not_applied()
}
