//! Flaws in how fences count.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Fence, Grant, LockBackend, LockId, LockKey, LockRef,
    ReleaseOutcome,
};

use crate::store::{Acquired, Flaw, Found, Released, Step};

/// Counts from the fences that each key has used up before its counter was lost.
#[derive(Default)]
struct Counters(Mutex<HashMap<LockKey, u64>>);

impl Counters {
    /// Loses the counter of a key that was at `fence`.
    fn lose(&self, key: &LockKey, fence: Fence) {
        self.0.lock().unwrap().insert(key.clone(), fence.number());
    }

    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        Ok(match step.memory.acquire(request).await? {
            AcquireOutcome::Granted(grant) => {
                let before = self.0.lock().unwrap().get(&request.key).copied().unwrap_or_default();
                let fence = Fence::new(grant.fence.number() - before)?;
                AcquireOutcome::Granted(Grant { fence, ..grant })
            }
            contended => contended,
        })
    }
}

/// Deletes the counter together with the lock.
#[derive(Default)]
pub(crate) struct ReleaseResetsTheFence(Counters);

impl Flaw for ReleaseResetsTheFence {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        self.0.acquire(step, request).await
    }

    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        if let Some(record) = step.memory.lookup(&lock.lock_id.into()).await? {
            self.0.lose(&record.key, record.fence);
        }
        step.memory.release(lock).await
    }
}

/// Lets the counter expire together with the lock.
#[derive(Default)]
pub(crate) struct ExpiryResetsTheFence {
    counters: Counters,
    /// The last grant of each key that was not released.
    unreleased: Mutex<HashMap<LockKey, (LockId, Fence)>>,
}

impl Flaw for ExpiryResetsTheFence {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        if step.memory.lookup(&request.key.clone().into()).await?.is_none()
            && let Some((_, fence)) = self.unreleased.lock().unwrap().remove(&request.key)
        {
            self.counters.lose(&request.key, fence);
        }
        let outcome = self.counters.acquire(step, request).await;
        if let Some(record) = step.memory.lookup(&request.key.clone().into()).await? {
            let last = (record.lock_id, record.fence);
            self.unreleased.lock().unwrap().insert(record.key, last);
        }
        outcome
    }

    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        let outcome = step.memory.release(lock).await?;
        if outcome == ReleaseOutcome::Released {
            self.unreleased.lock().unwrap().retain(|_, (id, _)| *id != lock.lock_id);
        }
        Ok(outcome)
    }
}

/// Deletes the counter when a lock is released by force.
#[derive(Default)]
pub(crate) struct ForceResetsTheFence(Counters);

impl Flaw for ForceResetsTheFence {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        self.0.acquire(step, request).await
    }

    async fn force_release(&self, step: &Step, key: &LockKey) -> Found {
        let forced = step.memory.force_release(key).await?;
        if let Some(record) = &forced {
            self.0.lose(key, record.fence);
        }
        Ok(forced)
    }
}

/// Counts attempts instead of grants.
#[derive(Default)]
pub(crate) struct ContentionBurnsAFence;

impl Flaw for ContentionBurnsAFence {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let outcome = step.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { .. } = outcome
            && let Some(record) = step.memory.lookup(&request.key.clone().into()).await?
            && let Some(next) = record.fence.next()
        {
            step.memory.seed_fence(&request.key, next);
        }
        Ok(outcome)
    }
}

/// Counts all keys together.
#[derive(Default)]
pub(crate) struct OneCounterForAllKeys(Mutex<HashSet<LockId>>);

impl Flaw for OneCounterForAllKeys {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        Ok(match step.memory.acquire(request).await? {
            AcquireOutcome::Granted(grant) => {
                let mut granted = self.0.lock().unwrap();
                granted.insert(request.lock_id);
                let fence = Fence::new(u64::try_from(granted.len()).unwrap())?;
                AcquireOutcome::Granted(Grant { fence, ..grant })
            }
            contended => contended,
        })
    }
}

/// Starts anew beyond the last fence.
#[derive(Default)]
pub(crate) struct CounterWrapsAround;

impl Flaw for CounterWrapsAround {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let outcome = step.memory.acquire(request).await;
        if outcome.is_ok() {
            return outcome;
        }
        Ok(AcquireOutcome::Granted(Grant {
            fence: Fence::new(1)?,
            expires_at: syncguard_core::Timestamp::from_unix_millis(i64::MAX),
        }))
    }
}
