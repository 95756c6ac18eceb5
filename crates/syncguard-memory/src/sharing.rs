//! Shared mode.

use syncguard_core::{
    Error, ErrorKind, Fence, Timestamp,
    backend::{AcquireOutcome, AcquireRequest, Admission, Counters, SharedHolder},
};

use crate::{
    rejection::rejection,
    slots::{Sharing, Slot, Slots},
};

impl Slots {
    /// Grants a key in shared mode that no one holds exclusively, or returns its holders.
    pub(crate) fn share(
        &mut self,
        request: &AcquireRequest,
        counters: Counters,
        now: Timestamp,
    ) -> Result<AcquireOutcome, Error> {
        let lock_id = request.lock_id;
        let slot = self.by_key.entry(request.key.clone()).or_insert(Slot::free(Fence::ZERO));
        let sharing = match &mut slot.shared {
            Some(sharing) => sharing,
            None => slot.shared.insert(Box::new(Sharing::new()?)),
        };
        match sharing.holders.admit(lock_id, request.mode, now)? {
            Admission::Held(grant) => return Ok(AcquireOutcome::Granted(grant)),
            Admission::Refused(holder) => {
                return Ok(AcquireOutcome::Contended { holder: Some(holder) });
            }
            Admission::Admitted => {}
        }
        let limit = || rejection(ErrorKind::Internal, "the fence counter is at its limit");
        slot.fence = counters.next(Some(slot.fence), now).ok_or_else(limit)?;
        for expired in sharing.holders.prune(now) {
            self.by_id.remove(&expired.lock_id);
        }
        if let Some(expired) = slot.held.take() {
            self.by_id.remove(&expired.lock_id);
        }
        let owner = request.owner.clone();
        let holder = SharedHolder::new(lock_id, slot.fence, owner, request.ttl, now);
        let grant = holder.grant();
        sharing.holders.insert(holder, request.mode);
        self.by_id.insert(lock_id, request.key.clone());
        Ok(AcquireOutcome::Granted(grant))
    }

    /// Keeps new shared holders of a key out for as long as a refused request announces.
    pub(crate) fn announce(&mut self, request: &AcquireRequest, now: Timestamp) {
        let sharing = self.by_key.get_mut(&request.key).and_then(|slot| slot.shared.as_deref_mut());
        if let (Some(sharing), Some(announce)) = (sharing, request.announce) {
            sharing.holders.announce(request.lock_id, now.later_by(announce));
        }
    }
}
