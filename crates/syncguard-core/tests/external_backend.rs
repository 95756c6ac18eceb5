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
    /// The last grant of each key.
    last: HashMap<LockKey, LockRecord>,
    /// The ids that were abandoned.
    abandoned: HashSet<LockId>,
}

impl ExternalBackend {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(i64::try_from(self.1.elapsed().as_millis()).unwrap())
    }

    /// Finds a live grant, and returns it as read now.
    fn find(&self, table: &Table, matches: impl Fn(&LockRecord) -> bool) -> Option<LockRecord> {
        let now = self.now();
        let live = |record: &&LockRecord| {
            matches(record) && record.expires_at.is_live(now, Capabilities::GRACE)
        };
        let found = table.last.values().find(live)?;
        Some(LockRecord { observed_at: now, ..found.clone() })
    }

    /// Sets the expiry of a live grant. An expiry in the past ends the grant.
    fn set_expiry(&self, lock_id: LockId, expires_at: Timestamp) -> Option<()> {
        let mut table = self.0.lock().unwrap();
        let record = self.find(&table, |record| record.lock_id == lock_id)?;
        table.last.insert(record.key.clone(), LockRecord { expires_at, ..record });
        Some(())
    }
}

const PAST: Timestamp = Timestamp::from_unix_millis(i64::MIN);

impl LockBackend for ExternalBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_fencing(Fencing::Process)
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let reject = |kind| Err(Error::new(kind).not_applied());
        let mut table = self.0.lock().unwrap();
        if request.mode != Mode::Exclusive {
            return reject(ErrorKind::Unsupported);
        }
        if table.abandoned.contains(&request.lock_id) {
            return reject(ErrorKind::Aborted);
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
            return reject(ErrorKind::Internal);
        };
        let now = self.now();
        let record = LockRecord {
            mode: Mode::Exclusive,
            holders: Vec::new(),
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
        Ok(match self.set_expiry(lock.lock_id, expires_at) {
            Some(()) => ExtendOutcome::Extended { expires_at },
            None => ExtendOutcome::NotHeld(NotHeld::Unknown),
        })
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        Ok(match self.set_expiry(lock.lock_id, PAST) {
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
        self.0.lock().unwrap().abandoned.insert(lock_id);
        self.set_expiry(lock_id, PAST);
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
        let past = AcquireRequest::new(key.clone(), LockId::mint().unwrap(), Ttl::default());
        let Ok(AcquireOutcome::Granted(_)) = self.0.acquire(&past).await else { unreachable!() };
        let mut table = self.0.0.lock().unwrap();
        let record = table.last.get_mut(key).unwrap();
        (record.fence, record.expires_at) = (fence, PAST);
        Hook::Done
    }
}

contract_tests!(ExternalHarness);
