//! Flaws in who may extend, release and abandon, and in what that does.

use std::{collections::HashMap, sync::Mutex};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, BootInstant, Clock, Error, ErrorKind, ExtendOutcome,
    LockBackend, LockId, LockKey, LockRef, NotHeld, Operation, ReleaseOutcome, Ttl,
};

use crate::store::{Acquired, Extended, Flaw, Released, Step};

/// Releases whatever holds the key.
#[derive(Default)]
pub(crate) struct AnybodyReleases;

impl Flaw for AnybodyReleases {
    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        let outcome = step.memory.release(lock).await?;
        let Some(key) = &lock.key else { return Ok(outcome) };
        let forced = step.memory.force_release(key).await?;
        Ok(forced.map_or(outcome, |_| ReleaseOutcome::Released))
    }
}

/// Extends whatever holds the key.
#[derive(Default)]
pub(crate) struct AnybodyExtends;

impl Flaw for AnybodyExtends {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = match &lock.key {
            Some(key) => step.memory.lookup(&key.clone().into()).await?,
            None => None,
        };
        let holder = found.map_or(lock.lock_id, |record| record.lock_id);
        step.memory.extend(&holder.into(), ttl).await
    }
}

/// Answers each release of a grant as if it were the first.
#[derive(Default)]
pub(crate) struct ReleasesTwice(Mutex<Vec<LockId>>);

impl Flaw for ReleasesTwice {
    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        let outcome = step.memory.release(lock).await?;
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

/// Believes the hint more than the id.
#[derive(Default)]
pub(crate) struct TrustsTheHint;

impl Flaw for TrustsTheHint {
    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        let Some(key) = &lock.key else { return step.memory.release(lock).await };
        match step.memory.lookup(&key.clone().into()).await? {
            Some(record) if record.lock_id == lock.lock_id => step.memory.release(lock).await,
            _ => Ok(ReleaseOutcome::NotHeld(NotHeld::NotFound)),
        }
    }
}

/// Finds nothing without a hint.
#[derive(Default)]
pub(crate) struct NeedsTheHint;

impl Flaw for NeedsTheHint {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        match &lock.key {
            Some(_) => step.memory.extend(lock, ttl).await,
            None => Ok(ExtendOutcome::NotHeld(NotHeld::NotFound)),
        }
    }
}

/// Adds the ttl to what is left.
#[derive(Default)]
pub(crate) struct ExtendAdds;

impl Flaw for ExtendAdds {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = step.memory.lookup(&lock.lock_id.into()).await?;
        let left = found.map(|record| record.remaining()).unwrap_or_default();
        step.memory.extend(lock, Ttl::new(left + ttl.as_duration())?).await
    }
}

/// Never shortens.
#[derive(Default)]
pub(crate) struct ExtendNeverShortens;

impl Flaw for ExtendNeverShortens {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = step.memory.lookup(&lock.lock_id.into()).await?;
        let left = found.map(|record| record.remaining()).unwrap_or_default();
        step.memory.extend(lock, Ttl::new(left.max(ttl.as_duration()))?).await
    }
}

/// Extends a grant that is over.
#[derive(Default)]
pub(crate) struct ExtendRevives;

impl Flaw for ExtendRevives {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        let outcome = step.memory.extend(lock, ttl).await?;
        let (ExtendOutcome::NotHeld(NotHeld::Expired), Some(key)) = (outcome, &lock.key) else {
            return Ok(outcome);
        };
        let again = AcquireRequest::new(key.clone(), lock.lock_id, ttl);
        Ok(match step.memory.acquire(&again).await? {
            AcquireOutcome::Granted(grant) => {
                ExtendOutcome::Extended { expires_at: grant.expires_at }
            }
            AcquireOutcome::Contended { .. } => outcome,
        })
    }
}

/// Ends the holder's rights at its expiry.
#[derive(Default)]
pub(crate) struct NoGraceForTheHolder;

impl Flaw for NoGraceForTheHolder {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = step.memory.lookup(&lock.lock_id.into()).await?;
        if found.is_some_and(|record| record.remaining().is_zero()) {
            return Ok(ExtendOutcome::NotHeld(NotHeld::Expired));
        }
        step.memory.extend(lock, ttl).await
    }
}

/// Answers that it extended, and stores nothing.
#[derive(Default)]
pub(crate) struct ExtendIsNotStored;

impl Flaw for ExtendIsNotStored {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        Ok(match step.memory.lookup(&lock.lock_id.into()).await? {
            Some(record) => ExtendOutcome::Extended { expires_at: record.observed_at.after(ttl) },
            None => ExtendOutcome::NotHeld(NotHeld::NotFound),
        })
    }
}

/// Releases without a mark, so that an acquire that arrives later is granted.
#[derive(Default)]
pub(crate) struct AbandonOnlyReleases;

impl Flaw for AbandonOnlyReleases {
    async fn abandon(&self, step: &Step, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        step.memory.release(&lock_id.into()).await.map(drop)
    }
}

/// Ends whatever holds the key.
#[derive(Default)]
pub(crate) struct AbandonEndsAnybody;

impl Flaw for AbandonEndsAnybody {
    async fn abandon(&self, step: &Step, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        step.memory.force_release(key).await?;
        step.memory.abandon(lock_id, key).await
    }
}

/// Marks, and leaves the grant that is there already.
#[derive(Default)]
pub(crate) struct AbandonOnlyMarks(Mutex<Vec<LockId>>);

impl Flaw for AbandonOnlyMarks {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let marked = self.0.lock().unwrap().contains(&request.lock_id);
        if marked { Err(refused()) } else { step.memory.acquire(request).await }
    }

    async fn abandon(&self, _step: &Step, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().push(lock_id);
        Ok(())
    }
}

/// Keeps one mark for each key.
#[derive(Default)]
pub(crate) struct AbandonForgetsTheOneBefore(Mutex<HashMap<LockKey, LockId>>);

impl Flaw for AbandonForgetsTheOneBefore {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let marked = self.0.lock().unwrap().get(&request.key) == Some(&request.lock_id);
        if marked { Err(refused()) } else { step.memory.acquire(request).await }
    }

    async fn abandon(&self, step: &Step, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().insert(key.clone(), lock_id);
        step.memory.release(&lock_id.into()).await.map(drop)
    }
}

/// Keeps marks no longer than the grace.
#[derive(Default)]
pub(crate) struct MarksEndWithTheGrace(Mutex<HashMap<LockId, BootInstant>>);

impl Flaw for MarksEndWithTheGrace {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let marked = self.0.lock().unwrap().get(&request.lock_id).copied();
        let grace = step.memory.capabilities().grace;
        match marked {
            Some(at) if step.clock.now().since(at) <= grace => Err(refused()),
            _ => step.memory.acquire(request).await,
        }
    }

    async fn abandon(&self, step: &Step, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().insert(lock_id, step.clock.now());
        step.memory.release(&lock_id.into()).await.map(drop)
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Aborted, Operation::Acquire).not_applied()
}
