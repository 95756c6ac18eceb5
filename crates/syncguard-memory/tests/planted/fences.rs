//! Flaws in the fence counters.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use syncguard_core::{
    Fence, LockId, LockKey, ReleaseOutcome,
    backend::{AcquireOutcome, AcquireRequest, Grant, LockBackend, LockRef},
};

use crate::store::{Acquired, Call, Flaw, Found, Released};

/// Fence counters that restart: the fence at which the counter of a key was lost is subtracted.
#[derive(Default)]
struct Counters(Mutex<HashMap<LockKey, u64>>);

impl Counters {
    /// Loses the counter of a key at `fence`.
    fn lose(&self, key: &LockKey, fence: Fence) {
        self.0.lock().unwrap().insert(key.clone(), fence.number());
    }

    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        Ok(match call.memory.acquire(request).await? {
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
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        self.0.acquire(call, request).await
    }

    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        if let Some(record) = call.memory.lookup(&lock.lock_id.into()).await? {
            self.0.lose(&record.key, record.fence);
        }
        call.memory.release(lock).await
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
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if call.memory.lookup(&request.key.clone().into()).await?.is_none()
            && let Some((_, fence)) = self.unreleased.lock().unwrap().remove(&request.key)
        {
            self.counters.lose(&request.key, fence);
        }
        let outcome = self.counters.acquire(call, request).await;
        if let Some(record) = call.memory.lookup(&request.key.clone().into()).await? {
            let last = (record.lock_id, record.fence);
            self.unreleased.lock().unwrap().insert(record.key, last);
        }
        outcome
    }

    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let outcome = call.memory.release(lock).await?;
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
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        self.0.acquire(call, request).await
    }

    async fn force_release(&self, call: &Call, key: &LockKey) -> Found {
        let forced = call.memory.force_release(key).await?;
        if let Some(record) = &forced {
            self.0.lose(key, record.fence);
        }
        Ok(forced)
    }
}

/// Counts attempts instead of grants.
#[derive(Default)]
pub(crate) struct ContentionUsesUpAFence;

impl Flaw for ContentionUsesUpAFence {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { .. } = outcome
            && let Some(record) = call.memory.lookup(&request.key.clone().into()).await?
            && let Some(next) = record.fence.next()
        {
            call.memory.seed_fence(&request.key, next);
        }
        Ok(outcome)
    }
}

/// Uses one counter for all keys.
#[derive(Default)]
pub(crate) struct OneCounterForAllKeys(Mutex<HashSet<LockId>>);

impl Flaw for OneCounterForAllKeys {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        Ok(match call.memory.acquire(request).await? {
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

/// Starts again at the first fence after the last one.
#[derive(Default)]
pub(crate) struct CounterWrapsAround;

impl Flaw for CounterWrapsAround {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await;
        if outcome.is_ok() {
            return outcome;
        }
        Ok(AcquireOutcome::Granted(Grant {
            fence: Fence::new(1)?,
            expires_at: syncguard_core::Timestamp::from_unix_millis(i64::MAX),
        }))
    }
}

/// Grants each claim under fence 0, also on a key with a counter.
#[derive(Default)]
pub(crate) struct NeverCountsClaims;

impl Flaw for NeverCountsClaims {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        Ok(match call.memory.acquire(request).await? {
            AcquireOutcome::Granted(grant) if !request.creates_counter => {
                AcquireOutcome::Granted(Grant { fence: Fence::ZERO, ..grant })
            }
            outcome => outcome,
        })
    }
}

/// Deletes the counter of a key that is claimed.
#[derive(Default)]
pub(crate) struct ClaimForgetsTheCounter(Counters);

impl Flaw for ClaimForgetsTheCounter {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if request.creates_counter {
            return self.0.acquire(call, request).await;
        }
        let outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Granted(grant) = &outcome {
            self.0.lose(&request.key, grant.fence);
        }
        Ok(outcome)
    }
}

/// Grants a claim even if another one has the key.
#[derive(Default)]
pub(crate) struct ClaimsAreNotRefused;

impl Flaw for ClaimsAreNotRefused {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if !request.creates_counter {
            call.memory.force_release(&request.key).await?;
        }
        call.memory.acquire(request).await
    }
}
