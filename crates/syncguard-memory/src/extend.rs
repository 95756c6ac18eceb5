use syncguard_core::{ExtendOutcome, LockId, Ttl};

use crate::MemoryBackend;

impl MemoryBackend {
    pub(crate) fn extend_now(&self, lock_id: LockId, ttl: Ttl) -> ExtendOutcome {
        let mut slots = self.lock();
        let now = self.now();
        match slots.held_by(lock_id, now) {
            Ok((_, slot)) => {
                let expires_at = now.after(ttl);
                if let Some(held) = &mut slot.held {
                    held.expires_at = expires_at;
                }
                ExtendOutcome::Extended { expires_at }
            }
            Err(why) => ExtendOutcome::NotHeld(why),
        }
    }
}
