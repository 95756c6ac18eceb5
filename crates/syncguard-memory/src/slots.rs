//! The slots of the keys.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use syncguard_core::{
    Fence, Holder, LockId, LockKey, Owner, Timestamp,
    backend::{AcquireOutcome, AcquireRequest, Capabilities, Grant, LockRecord, NotHeld},
};

use crate::waiters::{PendingWakeUp, Waiters};

/// How long the tombstone of an abandoned id is kept. An acquire in flight is a future of this
/// process that has not been polled yet, and no task is left unpolled for that long.
const TOMBSTONE_TTL: Duration = Duration::from_secs(3_600);

/// The whole state of the backend, behind one mutex.
///
/// **Invariant:** `by_id` contains the key of every holder. It may also contain keys whose holder
/// has changed since, so a lookup by id compares the id with that of the current holder.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) by_key: BTreeMap<LockKey, Slot>,
    pub(crate) by_id: HashMap<LockId, LockKey>,
    pub(crate) abandoned: HashMap<LockId, Timestamp>,
    pub(crate) waiters: Waiters,
}

/// A key's fence counter, which is permanent, and its holder, which is not.
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
    /// Finds the slot and the key of the live holder with this id.
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

    /// Grants a key that no one holds. Returns `None` if its fence counter is at its limit.
    pub(crate) fn grant(
        &mut self,
        request: &AcquireRequest,
        now: Timestamp,
    ) -> Option<AcquireOutcome> {
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

    /// Ends the grant of a key. Returns the wake-up of the waiters of the key.
    pub(crate) fn end_grant(&mut self, key: &LockKey) -> PendingWakeUp {
        let held = self.by_key.get_mut(key).and_then(|slot| slot.held.take());
        let Some(held) = held else { return PendingWakeUp::default() };
        self.by_id.remove(&held.lock_id);
        self.waiters.wake_up(key)
    }

    /// Stores a tombstone for an id, so that no lock is granted to it in the future.
    pub(crate) fn abandon(&mut self, lock_id: LockId, now: Timestamp) {
        self.abandoned.retain(|_, abandoned_at| now.since(*abandoned_at) < TOMBSTONE_TTL);
        self.abandoned.insert(lock_id, now);
    }

    /// Continues the fences of a key after `fence`, unless they are already higher.
    pub(crate) fn seed(&mut self, key: &LockKey, fence: Fence) {
        let slot = self.by_key.entry(key.clone()).or_insert(Slot { fence, held: None });
        slot.fence = slot.fence.max(fence);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use syncguard_core::{
        LockId, LockKey, ManualClock, ReleaseOutcome, Ttl,
        backend::{AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, NotHeld},
    };

    use super::TOMBSTONE_TTL;
    use crate::{
        acquire::acquire,
        extend::extend,
        operate::force_release,
        release::{abandon, release},
        store::Store,
    };

    const ITERATIONS: usize = 50;

    fn store() -> (Store, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        (Store::new(clock.clone()), clock)
    }

    /// Grants the only key to a new id.
    fn grant(store: &Store) -> LockId {
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(LockKey::new("k").unwrap(), id, Ttl::default());
        let outcome = acquire(store, &request).unwrap();
        assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
        id
    }

    #[test]
    fn the_id_of_a_grant_is_removed_however_the_grant_ends() {
        let (store, clock) = store();
        for _ in 0..ITERATIONS {
            let _ = release(&store, grant(&store));
            assert_eq!(store.lock().by_id.len(), 0, "released");
            abandon(&store, grant(&store));
            assert_eq!(store.lock().by_id.len(), 0, "abandoned");
            grant(&store);
            assert!(force_release(&store, &LockKey::new("k").unwrap()).is_some());
            assert_eq!(store.lock().by_id.len(), 0, "released by force");
        }
        for _ in 0..ITERATIONS {
            grant(&store);
            clock.advance(Ttl::default().as_duration() + Capabilities::GRACE);
            assert_eq!(store.lock().by_id.len(), 1, "expired: removed by the next grant");
        }
    }

    #[test]
    fn an_outdated_id_in_the_index_does_not_own_the_lock_of_the_new_holder() {
        let (store, _clock) = store();
        let (holder, stale) = (grant(&store), LockId::mint().unwrap());
        store.lock().by_id.insert(stale, LockKey::new("k").unwrap());
        let extended = extend(&store, stale, Ttl::MAX);
        assert_eq!(extended, ExtendOutcome::NotHeld(NotHeld::NotFound));
        assert_eq!(release(&store, stale), ReleaseOutcome::NotHeld(NotHeld::NotFound));
        abandon(&store, stale);
        assert_eq!(release(&store, holder), ReleaseOutcome::Released);
    }

    #[test]
    fn a_tombstone_is_kept_for_its_ttl_and_then_removed() {
        let (store, clock) = store();
        for _ in 0..ITERATIONS {
            abandon(&store, LockId::mint().unwrap());
        }
        assert_eq!(store.lock().abandoned.len(), ITERATIONS);
        clock.advance(TOMBSTONE_TTL - Duration::from_millis(1));
        abandon(&store, LockId::mint().unwrap());
        assert_eq!(store.lock().abandoned.len(), ITERATIONS + 1);
        clock.advance(Duration::from_millis(1));
        abandon(&store, LockId::mint().unwrap());
        assert_eq!(store.lock().abandoned.len(), 2);
    }
}
