//! A backend as somebody outside would write it: against core alone, and proven by the suite.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use syncguard_core::{contract::*, *};

/// Each key's last grant, and the ids that were called off.
#[derive(Clone)]
struct Outsider(Arc<Mutex<Table>>, Instant);

#[derive(Default)]
struct Table {
    last: HashMap<LockKey, LockRecord>,
    over: HashMap<LockId, ()>,
}

impl Outsider {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(i64::try_from(self.1.elapsed().as_millis()).unwrap())
    }

    /// Finds a live grant, and shows it as it stands now.
    fn find(&self, table: &Table, matches: impl Fn(&LockRecord) -> bool) -> Option<LockRecord> {
        let now = self.now();
        let live = |record: &&LockRecord| {
            matches(record) && record.expires_at.is_live(now, Capabilities::GRACE)
        };
        let found = table.last.values().find(live)?;
        Some(LockRecord { observed_at: now, ..found.clone() })
    }

    /// Moves the expiry of a live grant; into the past, to end it.
    fn move_expiry(&self, lock_id: LockId, expires_at: Timestamp) -> Option<()> {
        let mut table = self.0.lock().unwrap();
        let record = self.find(&table, |record| record.lock_id == lock_id)?;
        table.last.insert(record.key.clone(), LockRecord { expires_at, ..record });
        Some(())
    }
}

const PAST: Timestamp = Timestamp::from_unix_millis(i64::MIN);

impl LockBackend for Outsider {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_fencing(Fencing::Process)
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let refuse = |kind| Err(Error::new(kind, Operation::Acquire).not_applied());
        let mut table = self.0.lock().unwrap();
        if request.mode != Mode::Exclusive {
            return refuse(ErrorKind::Unsupported);
        }
        if table.over.contains_key(&request.lock_id) {
            return refuse(ErrorKind::Aborted);
        }
        if let Some(held) = self.find(&table, |record| record.key == request.key) {
            let LockRecord { fence, expires_at, observed_at: now, owner, .. } = held;
            let grant = Grant { fence, expires_at };
            if held.lock_id == request.lock_id {
                return Ok(AcquireOutcome::Granted(grant));
            }
            let holder = Holder::new(grant, owner, now, Capabilities::GRACE);
            return Ok(AcquireOutcome::Contended { holder: Some(holder) });
        }
        let last = table.last.get(&request.key).map_or(Fence::ZERO, |record| record.fence);
        let Some(fence) = last.next() else {
            return refuse(ErrorKind::Internal);
        };
        let now = self.now();
        let record = LockRecord {
            key: request.key.clone(),
            lock_id: request.lock_id,
            fence,
            owner: request.owner.clone(),
            acquired_at: now,
            expires_at: now.after(request.ttl),
            observed_at: now,
        };
        let expires_at = record.expires_at;
        table.last.insert(request.key.clone(), record);
        Ok(AcquireOutcome::Granted(Grant { fence, expires_at }))
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let expires_at = self.now().after(ttl);
        Ok(match self.move_expiry(lock.lock_id, expires_at) {
            Some(()) => ExtendOutcome::Extended { expires_at },
            None => ExtendOutcome::NotHeld(NotHeld::Unknown),
        })
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        Ok(match self.move_expiry(lock.lock_id, PAST) {
            Some(()) => ReleaseOutcome::Released,
            None => ReleaseOutcome::NotHeld(NotHeld::Unknown),
        })
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let table = self.0.lock().unwrap();
        Ok(self.find(&table, |record| match query {
            LockQuery::ByKey(key) => record.key == *key,
            LockQuery::ById(lock_id) => record.lock_id == *lock_id,
        }))
    }

    async fn abandon(&self, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().over.insert(lock_id, ());
        self.move_expiry(lock_id, PAST);
        Ok(())
    }
}

struct OutsiderHarness(Outsider);

impl Harness for OutsiderHarness {
    type Backend = Outsider;

    fn profile() -> Profile {
        Profile::in_process("outsider")
    }

    async fn start() -> Self {
        // Later than the clock's start, so that the suite sees no time before it.
        let start = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        Self(Outsider(Arc::default(), start))
    }

    async fn client(&self) -> Outsider {
        self.0.clone()
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        let past = AcquireRequest::new(key.clone(), LockId::mint().unwrap(), Ttl::default());
        let Ok(AcquireOutcome::Granted(_)) = self.0.acquire(&past).await else { unreachable!() };
        let mut table = self.0.0.lock().unwrap();
        let record = table.last.get_mut(key).unwrap();
        (record.fence, record.expires_at) = (fence, PAST);
        Hook::Done
    }
}

contract_tests!(OutsiderHarness);
