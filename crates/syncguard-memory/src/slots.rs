use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use syncguard_core::{
    Capabilities, Fence, Grant, Holder, LockId, LockKey, LockRecord, NotHeld, Owner, Timestamp,
};

use crate::wait::{Waiters, Woken};

/// How long the mark of an abandoned id is kept. An acquire that is still on its way waits in this
/// very process for its first poll; no task is left unpolled for that long.
const MARK: Duration = Duration::from_secs(3_600);

/// All that the backend knows, behind one mutex.
///
/// **Invariant:** `by_id` names the slot of every holder. It may also name slots whose holder has
/// changed since, so a holder counts only if its own id is the one that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) by_key: BTreeMap<LockKey, Slot>,
    pub(crate) by_id: HashMap<LockId, LockKey>,
    pub(crate) abandoned: HashMap<LockId, Timestamp>,
    pub(crate) waiters: Waiters,
}

/// A key's fence counter, which stays, and its holder, who goes.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) fence: Fence,
    pub(crate) held: Option<Held>,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) lock_id: LockId,
    pub(crate) owner: Option<Owner>,
    pub(crate) acquired_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

impl Slot {
    pub(crate) fn live(&self, now: Timestamp) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.is_live(now))
    }

    pub(crate) fn grant(&self, held: &Held) -> Grant {
        Grant { fence: self.fence, expires_at: held.expires_at }
    }

    pub(crate) fn holder(&self, held: &Held, now: Timestamp) -> Holder {
        Holder::new(self.grant(held), held.owner.clone(), now, Capabilities::GRACE)
    }

    pub(crate) fn record(&self, key: &LockKey, held: &Held, now: Timestamp) -> LockRecord {
        LockRecord {
            key: key.clone(),
            lock_id: held.lock_id,
            fence: self.fence,
            owner: held.owner.clone(),
            acquired_at: held.acquired_at,
            expires_at: held.expires_at,
            observed_at: now,
        }
    }
}

impl Held {
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_live(now, Capabilities::GRACE)
    }
}

impl Slots {
    /// Finds the live holder with this id, and its key.
    pub(crate) fn held_by(
        &mut self,
        lock_id: LockId,
        now: Timestamp,
    ) -> Result<(LockKey, &mut Slot), NotHeld> {
        let key = self.by_id.get(&lock_id).cloned().ok_or(NotHeld::NotFound)?;
        let slot = self.by_key.get_mut(&key).ok_or(NotHeld::NotFound)?;
        match &slot.held {
            Some(held) if held.lock_id != lock_id => Err(NotHeld::NotFound),
            Some(held) if held.is_live(now) => Ok((key, slot)),
            Some(_) => Err(NotHeld::Expired),
            None => Err(NotHeld::NotFound),
        }
    }

    /// Empties a slot. Returns those who wait for its key.
    pub(crate) fn vacate(&mut self, key: &LockKey) -> Woken {
        let held = self.by_key.get_mut(key).and_then(|slot| slot.held.take());
        let Some(held) = held else { return Woken::default() };
        self.by_id.remove(&held.lock_id);
        self.waiters.of(key)
    }

    /// Marks an id so that nothing is granted under it any more.
    pub(crate) fn abandon(&mut self, lock_id: LockId, now: Timestamp) {
        self.abandoned.retain(|_, marked_at| now.since(*marked_at) < MARK);
        self.abandoned.insert(lock_id, now);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use syncguard_core::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, LockId, LockKey, ManualClock,
        NotHeld, ReleaseOutcome, Ttl,
    };

    use super::MARK;
    use crate::MemoryBackend;

    const ROUNDS: usize = 50;

    fn store() -> (MemoryBackend, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        (MemoryBackend::with_clock(clock.clone()), clock)
    }

    /// Grants the only key to a new id.
    fn grant(store: &MemoryBackend) -> LockId {
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(LockKey::new("k").unwrap(), id, Ttl::default());
        let outcome = store.acquire_now(&request).unwrap();
        assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
        id
    }

    #[test]
    fn the_id_of_a_grant_is_forgotten_however_the_grant_ends() {
        let (store, clock) = store();
        for _ in 0..ROUNDS {
            let _ = store.release_now(grant(&store));
            assert_eq!(store.lock().by_id.len(), 0, "released");
            store.abandon_now(grant(&store));
            assert_eq!(store.lock().by_id.len(), 0, "abandoned");
            grant(&store);
            assert!(store.force_release_now(&LockKey::new("k").unwrap()).is_some());
            assert_eq!(store.lock().by_id.len(), 0, "released by force");
        }
        for _ in 0..ROUNDS {
            grant(&store);
            clock.advance(Ttl::default().as_duration() + Capabilities::GRACE);
            assert_eq!(store.lock().by_id.len(), 1, "expired: forgotten with the next grant");
        }
    }

    #[test]
    fn an_id_that_names_the_slot_of_another_holder_owns_nothing() {
        let (store, _clock) = store();
        let (holder, stale) = (grant(&store), LockId::mint().unwrap());
        store.lock().by_id.insert(stale, LockKey::new("k").unwrap());
        let extended = store.extend_now(stale, Ttl::MAX);
        assert_eq!(extended, ExtendOutcome::NotHeld(NotHeld::NotFound));
        assert_eq!(store.release_now(stale), ReleaseOutcome::NotHeld(NotHeld::NotFound));
        store.abandon_now(stale);
        assert_eq!(store.release_now(holder), ReleaseOutcome::Released);
    }

    #[test]
    fn a_mark_is_kept_for_its_time_and_forgotten_after_it() {
        let (store, clock) = store();
        for _ in 0..ROUNDS {
            store.abandon_now(LockId::mint().unwrap());
        }
        assert_eq!(store.lock().abandoned.len(), ROUNDS);
        clock.advance(MARK - Duration::from_millis(1));
        store.abandon_now(LockId::mint().unwrap());
        assert_eq!(store.lock().abandoned.len(), ROUNDS + 1);
        clock.advance(Duration::from_millis(1));
        store.abandon_now(LockId::mint().unwrap());
        assert_eq!(store.lock().abandoned.len(), 2);
    }
}
