//! The slots of the keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, Fence, Holder, LockId, LockKey, Owner, Timestamp,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, Counters, Grant, LockRecord, Mode, NotHeld,
        RetireRequest, SharedHolders,
    },
};

use crate::{
    rejection::rejection,
    waiters::{PendingWakeUp, Waiters},
};

/// How long the tombstone of an abandoned id is kept. An acquire in flight is a future of this
/// process that has not been polled yet, and no task is left unpolled for that long.
const TOMBSTONE_TTL: Duration = Duration::from_secs(3_600);

/// The whole state of the backend, behind one mutex.
///
/// **Invariant:** `by_id` contains the key of every holder, and no other id.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) by_key: BTreeMap<LockKey, Slot>,
    pub(crate) by_id: HashMap<LockId, LockKey>,
    pub(crate) abandoned: HashMap<LockId, Timestamp>,
    /// When grants without a counter expire. A key may be in it more than once, or have become free.
    pub(crate) uncounted: BTreeSet<(Timestamp, LockKey)>,
    pub(crate) waiters: Waiters,
}

/// A key's fence counter, which stays until it is retired, and its holders. If the fence is zero,
/// there is no counter yet, and the slot is kept only for its grant.
///
/// **Invariant:** at most one of `held` and `shared` has a live grant.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) fence: Fence,
    pub(crate) held: Option<Held>,
    /// The shared holders and the announcement, while there are any. Boxed, because most keys are
    /// never shared.
    pub(crate) shared: Option<Box<Sharing>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) lock_id: LockId,
    pub(crate) owner: Option<Owner>,
    pub(crate) acquired_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// A key that is shared, or announced for a writer.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    /// The id of the head, which holds nothing. Lookups show it.
    pub(crate) head: LockId,
    pub(crate) holders: SharedHolders,
}

impl Sharing {
    pub(crate) fn new() -> Result<Self, Error> {
        let head = LockId::mint().map_err(|source| {
            rejection(ErrorKind::Internal, "the operating system returned no random bytes")
                .with_source(source)
        })?;
        Ok(Self { head, holders: SharedHolders::default() })
    }
}

impl Slot {
    pub(crate) fn free(fence: Fence) -> Self {
        Self { fence, held: None, shared: None }
    }

    /// Returns the ids of the holders, live or not.
    fn ids(&self) -> impl Iterator<Item = LockId> {
        let shared = self.shared.as_deref().map(|sharing| sharing.holders.holders());
        let shared = shared.unwrap_or_default().iter().map(|holder| holder.lock_id);
        self.held.iter().map(|held| held.lock_id).chain(shared)
    }

    /// Removes the box of shared holders once it is empty.
    fn tidy(&mut self) {
        self.shared = self.shared.take().filter(|sharing| !sharing.holders.is_empty());
    }

    pub(crate) fn live(&self, now: Timestamp) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.is_live(now))
    }

    /// Returns the shared holders, if the key is shared at `now`.
    pub(crate) fn shared(&self, now: Timestamp) -> Option<&SharedHolders> {
        let sharing = self.shared.as_deref()?;
        sharing.holders.is_held(now).then_some(&sharing.holders)
    }

    pub(crate) fn grant(&self, held: &Held) -> Grant {
        Grant { fence: self.fence, expires_at: held.expires_at }
    }

    pub(crate) fn holder(&self, held: &Held, now: Timestamp) -> Holder {
        Holder::new(self.grant(held), held.owner.clone(), now, Capabilities::GRACE)
    }

    /// Returns the record of a key that is held at `now`.
    pub(crate) fn record(&self, key: &LockKey, now: Timestamp) -> Option<LockRecord> {
        let Some(held) = self.live(now) else {
            let sharing = self.shared.as_deref()?;
            return sharing.holders.record(key.clone(), sharing.head, now);
        };
        Some(LockRecord {
            key: key.clone(),
            lock_id: held.lock_id,
            mode: Mode::Exclusive,
            fence: self.fence,
            owner: held.owner.clone(),
            acquired_at: held.acquired_at,
            expires_at: held.expires_at,
            observed_at: now,
            holders: Vec::new(),
        })
    }

    /// Returns whether `lock_id` holds the key.
    fn check(&self, lock_id: LockId, now: Timestamp) -> Result<(), NotHeld> {
        if let Some(held) = self.held.as_ref().filter(|held| held.lock_id == lock_id) {
            return if held.is_live(now) { Ok(()) } else { Err(NotHeld::Expired) };
        }
        let sharing = self.shared.as_deref().ok_or(NotHeld::NotFound)?;
        sharing.holders.get(lock_id, now).map(|_| ()).ok_or(NotHeld::Expired)
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
        slot.check(lock_id, now)?;
        Ok((key, slot))
    }

    /// Grants a key that no one holds. Returns `None` if its fence counter is at its limit.
    pub(crate) fn grant(
        &mut self,
        request: &AcquireRequest,
        counters: Counters,
        now: Timestamp,
    ) -> Option<AcquireOutcome> {
        let expires_at = now.after(request.ttl);
        let counter = self.by_key.get(&request.key).map(|slot| slot.fence);
        let fence = match request.is_uncounted(counter) {
            true => Fence::ZERO,
            false => counters.next(counter, now)?,
        };
        if fence == Fence::ZERO {
            self.remove_uncounted(now);
            self.uncounted.insert((expires_at, request.key.clone()));
        }
        // A key that was granted before, which is the usual case, is not cloned.
        let slot = match self.by_key.get_mut(&request.key) {
            Some(slot) => slot,
            None => self.by_key.entry(request.key.clone()).or_insert(Slot::free(Fence::ZERO)),
        };
        let held = Held {
            lock_id: request.lock_id,
            owner: request.owner.clone(),
            acquired_at: now,
            expires_at,
        };
        let grant = Grant { fence, expires_at };
        let granted = Slot { held: Some(held), ..Slot::free(grant.fence) };
        let before = std::mem::replace(slot, granted);
        before.ids().for_each(|expired| drop(self.by_id.remove(&expired)));
        self.by_id.insert(request.lock_id, request.key.clone());
        Some(AcquireOutcome::Granted(grant))
    }

    /// Ends every grant of a key and its announcement. Returns the wake-up of the waiters.
    pub(crate) fn end_grants(&mut self, key: &LockKey) -> PendingWakeUp {
        let Some(slot) = self.by_key.get_mut(key) else { return PendingWakeUp::default() };
        let free = Slot::free(slot.fence);
        let ended = std::mem::replace(slot, free);
        ended.ids().for_each(|lock_id| drop(self.by_id.remove(&lock_id)));
        self.remove_if_empty(key);
        self.waiters.wake_up(key)
    }

    /// Removes a key that has neither a counter nor a grant.
    fn remove_if_empty(&mut self, key: &LockKey) {
        let is_empty =
            |slot: &Slot| slot.fence == Fence::ZERO && slot.held.is_none() && slot.shared.is_none();
        if self.by_key.get(key).is_some_and(is_empty) {
            self.by_key.remove(key);
        }
    }

    /// Removes the keys whose grants without a counter have expired. Each such grant adds one entry
    /// and removes those that are due, so as many are left as are live, and were made last.
    fn remove_uncounted(&mut self, now: Timestamp) {
        while let Some((expires_at, key)) = self.uncounted.pop_first() {
            if expires_at.is_live(now, Capabilities::GRACE) {
                self.uncounted.insert((expires_at, key));
                return;
            }
            let slot = self.by_key.get(&key).filter(|slot| slot.fence == Fence::ZERO);
            match slot.and_then(|slot| slot.held.as_ref()) {
                // It was extended, or follows an earlier grant.
                Some(held) if held.is_live(now) => {
                    self.uncounted.insert((held.expires_at, key));
                }
                Some(held) => {
                    self.by_id.remove(&held.lock_id);
                    self.by_key.remove(&key);
                }
                None => {}
            }
        }
    }

    /// Ends the grant of one holder of a key. Returns the wake-up of the waiters, for whom a holder
    /// among others may have left a permit.
    pub(crate) fn end_grant(
        &mut self,
        key: &LockKey,
        lock_id: LockId,
        now: Timestamp,
    ) -> PendingWakeUp {
        self.by_id.remove(&lock_id);
        let Some(slot) = self.by_key.get_mut(key) else { return PendingWakeUp::default() };
        slot.held = slot.held.take().filter(|held| held.lock_id != lock_id);
        if let Some(holders) = slot.shared.as_deref_mut().map(|sharing| &mut sharing.holders) {
            holders.remove(lock_id, now);
            if holders.is_held(now) && holders.mode().permits().is_none() {
                return PendingWakeUp::default();
            }
        }
        slot.tidy();
        self.remove_if_empty(key);
        self.waiters.wake_up(key)
    }

    /// Stores a tombstone for an id, so that no lock is granted to it in the future.
    pub(crate) fn abandon(&mut self, lock_id: LockId, now: Timestamp) {
        self.abandoned.retain(|_, abandoned_at| now.since(*abandoned_at) < TOMBSTONE_TTL);
        self.abandoned.insert(lock_id, now);
    }

    /// Removes the announcement of an id. Returns the wake-up of the waiters that it kept out.
    pub(crate) fn withdraw(&mut self, key: &LockKey, lock_id: LockId) -> PendingWakeUp {
        let Some(slot) = self.by_key.get_mut(key) else { return PendingWakeUp::default() };
        let sharing = slot.shared.as_deref_mut();
        if !sharing.is_some_and(|sharing| sharing.holders.withdraw(lock_id)) {
            return PendingWakeUp::default();
        }
        slot.tidy();
        self.waiters.wake_up(key)
    }

    /// Removes a key that no one holds and no writer has announced itself for, if its counter can be
    /// retired. Returns whether it was removed.
    pub(crate) fn retire(
        &mut self,
        key: &LockKey,
        request: &RetireRequest,
        now: Timestamp,
    ) -> bool {
        let Some(slot) = self.by_key.get(key) else { return false };
        let is_taken = slot.live(now).is_some()
            || slot.shared.as_deref().is_some_and(|sharing| {
                sharing.holders.is_held(now) || sharing.holders.announcement(now).is_some()
            });
        if is_taken || !request.is_due(slot.fence, now) {
            return false;
        }
        slot.ids().for_each(|expired| drop(self.by_id.remove(&expired)));
        self.by_key.remove(key);
        true
    }

    /// Continues the fences of a key after `fence`, unless they are already higher.
    pub(crate) fn seed(&mut self, key: &LockKey, fence: Fence) {
        let slot = self.by_key.entry(key.clone()).or_insert(Slot::free(fence));
        slot.fence = slot.fence.max(fence);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use syncguard_core::{
        LockId, LockKey, ManualClock, ReleaseOutcome, Ttl,
        backend::{
            AcquireOutcome, AcquireRequest, Capabilities, Counters, ExtendOutcome, Mode, NotHeld,
        },
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
        grant_in(Mode::Exclusive, store)
    }

    fn grant_in(mode: Mode, store: &Store) -> LockId {
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(LockKey::new("k").unwrap(), id, Ttl::default());
        let outcome = acquire(store, &request.with_mode(mode), Counters::FromOne).unwrap();
        assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
        id
    }

    #[test]
    fn the_id_of_a_grant_is_removed_however_the_grant_ends() {
        let (store, clock) = store();
        for _ in 0..ITERATIONS {
            let _ = release(&store, grant(&store));
            assert_eq!(store.lock().by_id.len(), 0, "released");
            abandon(&store, grant(&store), &LockKey::new("k").unwrap());
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
    fn the_ids_of_shared_grants_are_removed_however_the_grants_end() {
        let (store, clock) = store();
        let key = LockKey::new("k").unwrap();
        let expire = || clock.advance(Ttl::default().as_duration() + Capabilities::GRACE);
        let readers = || [(); 3].map(|()| grant_in(Mode::SHARED, &store));
        for _ in 0..ITERATIONS {
            let [released, abandoned, _forced] = readers();
            let _ = release(&store, released);
            assert_eq!(store.lock().by_id.len(), 2, "released");
            abandon(&store, abandoned, &key);
            assert_eq!(store.lock().by_id.len(), 1, "abandoned");
            assert!(force_release(&store, &key).is_some());
            assert_eq!(store.lock().by_id.len(), 0, "released by force");
        }
        for _ in 0..ITERATIONS {
            readers();
            expire();
            grant(&store);
            assert_eq!(store.lock().by_id.len(), 1, "expired: removed by the next writer");
            expire();
            readers();
            assert_eq!(store.lock().by_id.len(), 3, "expired: removed by the next readers");
            expire();
        }
    }

    #[test]
    fn nothing_is_kept_of_a_shared_key_after_its_holders_and_its_announcement() {
        let (store, _clock) = store();
        let key = LockKey::new("k").unwrap();
        let is_shared = || store.lock().by_key[&key].shared.is_some();
        let (reader, writer) = (grant_in(Mode::SHARED, &store), LockId::mint().unwrap());
        let request = AcquireRequest::new(key.clone(), writer, Ttl::default());
        let _ = acquire(&store, &request.with_announcement(Some(TOMBSTONE_TTL)), Counters::FromOne)
            .unwrap();
        let _ = release(&store, reader);
        assert!(is_shared(), "the announcement is left");
        abandon(&store, writer, &key);
        assert!(!is_shared());
        let _ = release(&store, grant_in(Mode::SHARED, &store));
        assert!(!is_shared());
    }

    #[test]
    fn nothing_is_kept_of_claims_however_they_end() {
        let (store, clock) = store();
        let claim = |key: &str, ttl| {
            let (key, id) = (LockKey::new(key).unwrap(), LockId::mint().unwrap());
            let request = AcquireRequest::new(key, id, ttl).without_new_counter();
            let outcome = acquire(&store, &request, Counters::FromOne).unwrap();
            assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
            request
        };
        for n in 0..100 {
            let request = claim(&n.to_string(), Ttl::default());
            match n % 5 {
                0 => assert_eq!(release(&store, request.lock_id), ReleaseOutcome::Released),
                1 => abandon(&store, request.lock_id, &request.key),
                2 => assert!(force_release(&store, &request.key).is_some()),
                3 => drop(extend(&store, request.lock_id, Ttl::MAX)),
                _ => {}
            }
        }
        assert_eq!(store.lock().by_key.len(), 40, "extended, or with their first ttl");
        for (passed, left) in [(Ttl::default(), 20), (Ttl::MAX, 0)] {
            clock.advance(passed.as_duration() + Capabilities::GRACE);
            let last = claim("last", Ttl::default());
            assert_eq!(store.lock().by_key.len(), left + 1);
            let _ = release(&store, last.lock_id);
            let slots = store.lock();
            assert_eq!((slots.by_key.len(), slots.by_id.len()), (left, left));
            assert!(slots.uncounted.len() <= left + 1);
        }
    }

    #[test]
    fn a_key_that_is_locked_after_a_claim_keeps_its_counter() {
        let (store, clock) = store();
        let key = LockKey::new("k").unwrap();
        let claim = || {
            let id = LockId::mint().unwrap();
            let request = AcquireRequest::new(key.clone(), id, Ttl::default());
            let _ = acquire(&store, &request.without_new_counter(), Counters::FromOne).unwrap();
            release(&store, id)
        };
        let _ = claim();
        let _ = release(&store, grant(&store));
        let _ = claim();
        clock.advance(Ttl::MAX.as_duration());
        let _ = claim();
        assert_eq!(store.lock().by_key[&key].fence.number(), 3);
    }

    #[test]
    fn an_outdated_id_in_the_index_does_not_own_the_lock_of_the_new_holder() {
        let (store, _clock) = store();
        let (holder, stale) = (grant(&store), LockId::mint().unwrap());
        store.lock().by_id.insert(stale, LockKey::new("k").unwrap());
        let extended = extend(&store, stale, Ttl::MAX);
        assert_eq!(extended, ExtendOutcome::NotHeld(NotHeld::NotFound));
        assert_eq!(release(&store, stale), ReleaseOutcome::NotHeld(NotHeld::NotFound));
        abandon(&store, stale, &LockKey::new("k").unwrap());
        assert_eq!(release(&store, holder), ReleaseOutcome::Released);
    }

    #[test]
    fn a_tombstone_is_kept_for_its_ttl_and_then_removed() {
        let (store, clock) = store();
        for _ in 0..ITERATIONS {
            abandon(&store, LockId::mint().unwrap(), &LockKey::new("k").unwrap());
        }
        assert_eq!(store.lock().abandoned.len(), ITERATIONS);
        clock.advance(TOMBSTONE_TTL - Duration::from_millis(1));
        abandon(&store, LockId::mint().unwrap(), &LockKey::new("k").unwrap());
        assert_eq!(store.lock().abandoned.len(), ITERATIONS + 1);
        clock.advance(Duration::from_millis(1));
        abandon(&store, LockId::mint().unwrap(), &LockKey::new("k").unwrap());
        assert_eq!(store.lock().abandoned.len(), 2);
    }
}
