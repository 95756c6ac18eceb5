//! A backend outside this workspace: it depends on core alone, and runs the contract suite.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use syncguard_core::{backend::*, contract::*, *};

/// Locks in memory, with the start of their clock.
#[derive(Clone)]
struct ExternalBackend(Arc<Mutex<Table>>, Instant);

#[derive(Default)]
struct Table {
    slots: HashMap<LockKey, Slot>,
    /// The ids that were abandoned.
    abandoned: HashSet<LockId>,
}

/// The last fence of a key and its grants, of which those of one mode at most are live.
struct Slot {
    fence: Fence,
    exclusive: Option<SharedHolder>,
    shared: SharedHolders,
    /// The id of the record that stands for the shared holders.
    head: LockId,
}

impl Slot {
    fn new() -> Self {
        let (shared, head) = (SharedHolders::default(), LockId::mint().unwrap());
        Self { fence: Fence::ZERO, exclusive: None, shared, head }
    }

    /// Returns the exclusive grant, if it is live.
    fn exclusive(&mut self, now: Timestamp) -> Option<&mut SharedHolder> {
        let live = |held: &&mut SharedHolder| held.expires_at.is_live(now, Capabilities::GRACE);
        self.exclusive.as_mut().filter(live)
    }

    fn record(&mut self, key: &LockKey, now: Timestamp) -> Option<LockRecord> {
        let Some(held) = self.exclusive(now).cloned() else {
            return self.shared.record(key.clone(), self.head, now);
        };
        Some(LockRecord {
            key: key.clone(),
            lock_id: held.lock_id,
            mode: Mode::Exclusive,
            fence: held.fence,
            owner: held.owner,
            acquired_at: held.acquired_at,
            expires_at: held.expires_at,
            observed_at: now,
            holders: Vec::new(),
        })
    }

    /// Decides on a request. Returns `None` if it is to be granted.
    fn refuse(
        &mut self,
        request: &AcquireRequest,
        now: Timestamp,
    ) -> Result<Option<AcquireOutcome>, Error> {
        let contended = |holder| Ok(Some(AcquireOutcome::Contended { holder: Some(holder) }));
        if let Some(held) = self.exclusive(now) {
            if held.lock_id == request.lock_id && !request.mode.is_shared() {
                return Ok(Some(AcquireOutcome::Granted(held.grant())));
            }
            let (grant, owner) = (held.grant(), held.owner.clone());
            return contended(Holder::new(grant, owner, now, Capabilities::GRACE));
        }
        if request.mode.is_shared() {
            return match self.shared.admit(request.lock_id, request.mode, now)? {
                Admission::Held(grant) => Ok(Some(AcquireOutcome::Granted(grant))),
                Admission::Refused(holder) => contended(holder),
                Admission::Admitted => Ok(None),
            };
        }
        if !self.shared.is_held(now) {
            return Ok(None);
        }
        if let Some(announce) = request.announce {
            self.shared.announce(request.lock_id, now.later_by(announce));
        }
        contended(self.shared.holder(request.mode, now))
    }

    fn grant(&mut self, request: &AcquireRequest, now: Timestamp) -> Result<Grant, Error> {
        let limit = || Error::new(ErrorKind::Internal).not_applied();
        self.fence = self.fence.next().ok_or_else(limit)?;
        let owner = request.owner.clone();
        let holder = SharedHolder::new(request.lock_id, self.fence, owner, request.ttl, now);
        let grant = holder.grant();
        self.exclusive = None;
        if request.mode.is_shared() {
            self.shared.prune(now);
            self.shared.insert(holder, request.mode);
        } else {
            self.shared = SharedHolders::default();
            self.exclusive = Some(holder);
        }
        Ok(grant)
    }

    fn extend(&mut self, lock_id: LockId, ttl: Ttl, now: Timestamp) -> Option<Timestamp> {
        match self.exclusive(now).filter(|held| held.lock_id == lock_id) {
            Some(held) => {
                held.expires_at = now.after(ttl);
                Some(held.expires_at)
            }
            None => self.shared.extend(lock_id, ttl, now),
        }
    }

    fn release(&mut self, lock_id: LockId, now: Timestamp) -> bool {
        match self.exclusive(now).filter(|held| held.lock_id == lock_id) {
            Some(_) => self.exclusive.take().is_some(),
            None => self.shared.remove(lock_id, now),
        }
    }

    fn is_held_by(&mut self, lock_id: LockId, now: Timestamp) -> bool {
        self.exclusive(now).is_some_and(|held| held.lock_id == lock_id)
            || self.shared.get(lock_id, now).is_some()
    }
}

impl ExternalBackend {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(i64::try_from(self.1.elapsed().as_millis()).unwrap())
    }
}

impl LockBackend for ExternalBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_fencing(Fencing::Process).with_shared()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let mut table = self.0.lock().unwrap();
        let now = self.now();
        if table.abandoned.contains(&request.lock_id) {
            return Err(Error::new(ErrorKind::Aborted).not_applied());
        }
        let slot = table.slots.entry(request.key.clone()).or_insert_with(Slot::new);
        match slot.refuse(request, now)? {
            Some(outcome) => Ok(outcome),
            None => slot.grant(request, now).map(AcquireOutcome::Granted),
        }
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let mut table = self.0.lock().unwrap();
        let now = self.now();
        let extended = table.slots.values_mut().find_map(|s| s.extend(lock.lock_id, ttl, now));
        Ok(match extended {
            Some(expires_at) => ExtendOutcome::Extended { expires_at },
            None => ExtendOutcome::NotHeld(NotHeld::Unknown),
        })
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let mut table = self.0.lock().unwrap();
        let now = self.now();
        Ok(match table.slots.values_mut().any(|slot| slot.release(lock.lock_id, now)) {
            true => ReleaseOutcome::Released,
            false => ReleaseOutcome::NotHeld(NotHeld::Unknown),
        })
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let mut table = self.0.lock().unwrap();
        let now = self.now();
        let mut slots = table.slots.iter_mut();
        Ok(slots.find_map(|(key, slot)| {
            let matches = match query {
                LockQuery::ByKey(wanted) => key == wanted,
                LockQuery::ById(lock_id) => slot.is_held_by(*lock_id, now),
            };
            if matches { slot.record(key, now) } else { None }
        }))
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let mut table = self.0.lock().unwrap();
        let now = self.now();
        table.abandoned.insert(lock_id);
        if let Some(slot) = table.slots.get_mut(key) {
            slot.shared.withdraw(lock_id);
            slot.release(lock_id, now);
        }
        Ok(())
    }
}

struct ExternalHarness(ExternalBackend);

impl Harness for ExternalHarness {
    type Backend = ExternalBackend;

    fn profile() -> Profile {
        Profile::in_process("external")
    }

    async fn start() -> Self {
        // The clock is past its start, so that no time of the suite is before it.
        let start = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        Self(ExternalBackend(Arc::default(), start))
    }

    async fn client(&self) -> ExternalBackend {
        self.0.clone()
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        let mut table = self.0.0.lock().unwrap();
        table.slots.entry(key.clone()).or_insert_with(Slot::new).fence = fence;
        Hook::Done
    }
}

contract_tests!(ExternalHarness);
