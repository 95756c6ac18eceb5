//! Flaws in ownership, and in the effects of extend, release and abandon.

use std::{collections::HashMap, sync::Mutex};

use syncguard_core::{
    BootInstant, Clock, Error, ErrorKind, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, LockRef, NotHeld},
};

use crate::store::{Acquired, Call, Extended, Flaw, Released};

/// Releases the lock of any holder of the key.
#[derive(Default)]
pub(crate) struct AnyIdReleases;

impl Flaw for AnyIdReleases {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let outcome = call.memory.release(lock).await?;
        let Some(key) = &lock.key else { return Ok(outcome) };
        let forced = call.memory.force_release(key).await?;
        Ok(forced.map_or(outcome, |_| ReleaseOutcome::Released))
    }
}

/// Extends the lock of any holder of the key.
#[derive(Default)]
pub(crate) struct AnyIdExtends;

impl Flaw for AnyIdExtends {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = match &lock.key {
            Some(key) => call.memory.lookup(&key.clone().into()).await?,
            None => None,
        };
        let holder = found.map_or(lock.lock_id, |record| record.lock_id);
        call.memory.extend(&holder.into(), ttl).await
    }
}

/// Returns `Released` for each release of a grant, not only for the first.
#[derive(Default)]
pub(crate) struct ReleasesTwice(Mutex<Vec<LockId>>);

impl Flaw for ReleasesTwice {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let outcome = call.memory.release(lock).await?;
        let mut released = self.0.lock().unwrap();
        if outcome == ReleaseOutcome::Released {
            released.push(lock.lock_id);
        }
        match released.contains(&lock.lock_id) {
            true => Ok(ReleaseOutcome::Released),
            false => Ok(outcome),
        }
    }
}

/// Finds nothing if the hint does not match the id.
#[derive(Default)]
pub(crate) struct HintOverridesTheId;

impl Flaw for HintOverridesTheId {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let Some(key) = &lock.key else { return call.memory.release(lock).await };
        match call.memory.lookup(&key.clone().into()).await? {
            Some(record) if record.lock_id == lock.lock_id => call.memory.release(lock).await,
            _ => Ok(ReleaseOutcome::NotHeld(NotHeld::NotFound)),
        }
    }
}

/// Finds nothing without a hint.
#[derive(Default)]
pub(crate) struct RequiresTheHint;

impl Flaw for RequiresTheHint {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        match &lock.key {
            Some(_) => call.memory.extend(lock, ttl).await,
            None => Ok(ExtendOutcome::NotHeld(NotHeld::NotFound)),
        }
    }
}

/// Adds the ttl to the remaining time.
#[derive(Default)]
pub(crate) struct ExtendAdds;

impl Flaw for ExtendAdds {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = call.memory.lookup(&lock.lock_id.into()).await?;
        let left = found.map(|record| record.remaining()).unwrap_or_default();
        call.memory.extend(lock, Ttl::new(left + ttl.as_duration())?).await
    }
}

/// Never shortens the remaining time.
#[derive(Default)]
pub(crate) struct ExtendNeverShortens;

impl Flaw for ExtendNeverShortens {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = call.memory.lookup(&lock.lock_id.into()).await?;
        let left = found.map(|record| record.remaining()).unwrap_or_default();
        call.memory.extend(lock, Ttl::new(left.max(ttl.as_duration()))?).await
    }
}

/// Extends an expired grant.
#[derive(Default)]
pub(crate) struct ExtendRevives;

impl Flaw for ExtendRevives {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let outcome = call.memory.extend(lock, ttl).await?;
        let (ExtendOutcome::NotHeld(NotHeld::Expired), Some(key)) = (outcome, &lock.key) else {
            return Ok(outcome);
        };
        let again = AcquireRequest::new(key.clone(), lock.lock_id, ttl);
        Ok(match call.memory.acquire(&again).await? {
            AcquireOutcome::Granted(grant) => {
                ExtendOutcome::Extended { expires_at: grant.expires_at }
            }
            AcquireOutcome::Contended { .. } => outcome,
        })
    }
}

/// Does not let the holder extend within the grace.
#[derive(Default)]
pub(crate) struct NoGraceForTheHolder;

impl Flaw for NoGraceForTheHolder {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = call.memory.lookup(&lock.lock_id.into()).await?;
        if found.is_some_and(|record| record.remaining().is_zero()) {
            return Ok(ExtendOutcome::NotHeld(NotHeld::Expired));
        }
        call.memory.extend(lock, ttl).await
    }
}

/// Returns `Extended`, but stores nothing.
#[derive(Default)]
pub(crate) struct ExtendIsNotStored;

impl Flaw for ExtendIsNotStored {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        Ok(match call.memory.lookup(&lock.lock_id.into()).await? {
            Some(record) => ExtendOutcome::Extended { expires_at: record.observed_at.after(ttl) },
            None => ExtendOutcome::NotHeld(NotHeld::NotFound),
        })
    }
}

/// Releases without a tombstone, so that an acquire that arrives later is granted.
#[derive(Default)]
pub(crate) struct AbandonOnlyReleases;

impl Flaw for AbandonOnlyReleases {
    async fn abandon(&self, call: &Call, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        call.memory.release(&lock_id.into()).await.map(drop)
    }
}

/// Ends the grant of any holder of the key.
#[derive(Default)]
pub(crate) struct AbandonEndsAnyGrant;

impl Flaw for AbandonEndsAnyGrant {
    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        call.memory.force_release(key).await?;
        call.memory.abandon(lock_id, key).await
    }
}

/// Stores a tombstone, but does not end an existing grant.
#[derive(Default)]
pub(crate) struct AbandonOnlyStoresATombstone(Mutex<Vec<LockId>>);

impl Flaw for AbandonOnlyStoresATombstone {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let has_tombstone = self.0.lock().unwrap().contains(&request.lock_id);
        if has_tombstone { Err(rejection()) } else { call.memory.acquire(request).await }
    }

    async fn abandon(&self, _step: &Call, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().push(lock_id);
        Ok(())
    }
}

/// Keeps one tombstone for each key.
#[derive(Default)]
pub(crate) struct AbandonReplacesTheTombstone(Mutex<HashMap<LockKey, LockId>>);

impl Flaw for AbandonReplacesTheTombstone {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let has_tombstone = self.0.lock().unwrap().get(&request.key) == Some(&request.lock_id);
        if has_tombstone { Err(rejection()) } else { call.memory.acquire(request).await }
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().insert(key.clone(), lock_id);
        call.memory.release(&lock_id.into()).await.map(drop)
    }
}

/// Keeps tombstones no longer than the grace.
#[derive(Default)]
pub(crate) struct TombstonesEndWithTheGrace(Mutex<HashMap<LockId, BootInstant>>);

impl Flaw for TombstonesEndWithTheGrace {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let abandoned_at = self.0.lock().unwrap().get(&request.lock_id).copied();
        let grace = call.memory.capabilities().grace;
        match abandoned_at {
            Some(at) if call.clock.now().since(at) <= grace => Err(rejection()),
            _ => call.memory.acquire(request).await,
        }
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().insert(lock_id, call.clock.now());
        call.memory.release(&lock_id.into()).await.map(drop)
    }
}

fn rejection() -> Error {
    Error::new(ErrorKind::Aborted).with_operation(Operation::Acquire).not_applied()
}
