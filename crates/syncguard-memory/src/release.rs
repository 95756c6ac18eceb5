use syncguard_core::{LockId, LockKey, LockRecord, ReleaseOutcome};

use crate::MemoryBackend;

impl MemoryBackend {
    pub(crate) fn release_now(&self, lock_id: LockId) -> ReleaseOutcome {
        let mut slots = self.lock();
        match slots.held_by(lock_id, self.now()).map(|(key, _)| key) {
            Ok(key) => {
                let woken = slots.vacate(&key);
                drop(slots);
                woken.wake();
                ReleaseOutcome::Released
            }
            Err(why) => ReleaseOutcome::NotHeld(why),
        }
    }

    /// Marks the id and ends its grant in one step, so no acquire comes in between.
    pub(crate) fn abandon_now(&self, lock_id: LockId) {
        let mut slots = self.lock();
        let now = self.now();
        slots.abandon(lock_id, now);
        if let Ok(key) = slots.held_by(lock_id, now).map(|(key, _)| key) {
            let woken = slots.vacate(&key);
            drop(slots);
            woken.wake();
        }
    }

    pub(crate) fn force_release_now(&self, key: &LockKey) -> Option<LockRecord> {
        let mut slots = self.lock();
        let now = self.now();
        let slot = slots.by_key.get(key)?;
        let record = slot.record(key, slot.live(now)?, now);
        let woken = slots.vacate(key);
        drop(slots);
        woken.wake();
        Some(record)
    }
}
