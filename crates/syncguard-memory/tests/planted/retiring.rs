//! Flaws of retiring fence counters.

use std::sync::atomic::{AtomicBool, Ordering};

use syncguard_core::{
    Fence,
    backend::{AcquireOutcome, AcquireRequest, Grant, ListRequest, LockBackend, RetireRequest},
};

use crate::store::{Acquired, Call, Flaw, Retired};

/// Retires counters whether or not they are seeded.
#[derive(Default)]
pub(crate) struct RetiresUnseededCounters;

impl Flaw for RetiresUnseededCounters {
    async fn retire_counters(&self, call: &Call, request: &RetireRequest) -> Retired {
        call.memory.clone().seed_new_counters().retire_counters(request).await
    }
}

/// Retires the counters of held keys as well.
#[derive(Default)]
pub(crate) struct RetiresHeldCounters;

impl Flaw for RetiresHeldCounters {
    async fn retire_counters(&self, call: &Call, request: &RetireRequest) -> Retired {
        for lock in call.memory.list(&ListRequest::new("")).await?.locks {
            call.memory.force_release(&lock.key).await?;
        }
        call.memory.retire_counters(request).await
    }
}

/// Retires counters however young they are. It advances the clock, for which they are old then.
#[derive(Default)]
pub(crate) struct RetiresYoungCounters;

impl Flaw for RetiresYoungCounters {
    async fn retire_counters(&self, call: &Call, request: &RetireRequest) -> Retired {
        call.clock.advance(request.unused_for());
        call.memory.retire_counters(request).await
    }
}

/// Does not continue after the first step.
#[derive(Default)]
pub(crate) struct StopsRetiring;

impl Flaw for StopsRetiring {
    async fn retire_counters(&self, call: &Call, request: &RetireRequest) -> Retired {
        let mut page = call.memory.retire_counters(request).await?;
        page.next = None;
        Ok(page)
    }
}

/// Grants fences from 1 on after a retirement.
#[derive(Default)]
pub(crate) struct RetiredCounterBeginsAgain(AtomicBool);

impl Flaw for RetiredCounterBeginsAgain {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        Ok(match call.memory.acquire(request).await? {
            AcquireOutcome::Granted(grant) if self.0.load(Ordering::Relaxed) => {
                AcquireOutcome::Granted(Grant { fence: Fence::new(1)?, ..grant })
            }
            outcome => outcome,
        })
    }

    async fn retire_counters(&self, call: &Call, request: &RetireRequest) -> Retired {
        self.0.store(true, Ordering::Relaxed);
        call.memory.retire_counters(request).await
    }
}
