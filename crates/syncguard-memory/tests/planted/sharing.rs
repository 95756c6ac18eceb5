//! Flaws in what is granted in shared mode.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use syncguard_core::{
    Error, ErrorKind, LockId, LockKey, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, Grant, ListRequest, LockBackend, LockRecord,
        LockRef, Mode, permits_differ,
    },
};
use syncguard_memory::MemoryBackend;

use crate::{
    granting::steal,
    store::{Acquired, Call, Flaw, Found, Released},
};

pub(crate) const REFUSED: AcquireOutcome = AcquireOutcome::Contended { holder: None };

/// Returns the record of a key.
pub(crate) async fn held(call: &Call, key: &LockKey) -> Found {
    call.memory.lookup(&key.clone().into()).await
}

/// Returns the ids of those that share a key.
fn sharers(record: Option<&LockRecord>) -> Vec<LockId> {
    let holders = record.map(|record| &record.holders[..]).unwrap_or_default();
    holders.iter().map(|holder| holder.lock_id).collect()
}

/// Reports a shared mode that it does not grant.
#[derive(Default)]
pub(crate) struct ClaimsSharedMode;

impl Flaw for ClaimsSharedMode {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if request.mode.is_shared() {
            return Err(Error::new(ErrorKind::Unsupported).not_applied());
        }
        call.memory.acquire(request).await
    }
}

/// Grants a shared mode that it does not report.
#[derive(Default)]
pub(crate) struct SharesWithoutTheCapability;

impl Flaw for SharesWithoutTheCapability {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        let mut capabilities = memory.capabilities();
        capabilities.shared = false;
        capabilities
    }
}

/// Grants every request in exclusive mode.
#[derive(Default)]
pub(crate) struct TreatsReadersAsWriters;

impl Flaw for TreatsReadersAsWriters {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        call.memory.acquire(&request.clone().with_mode(Mode::Exclusive)).await
    }
}

/// Reads the readers, adds one, and writes them back in a step of its own.
#[derive(Default)]
pub(crate) struct OverwritesOtherReaders;

impl Flaw for OverwritesOtherReaders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut kept = sharers(held(call, &request.key).await?.as_ref());
        tokio::task::yield_now().await;
        kept.push(request.lock_id);
        let outcome = call.memory.acquire(request).await?;
        for reader in sharers(held(call, &request.key).await?.as_ref()) {
            if !kept.contains(&reader) {
                let _ = call.memory.release(&reader.into()).await?;
            }
        }
        Ok(outcome)
    }
}

/// Grants a writer a key that readers hold.
#[derive(Default)]
pub(crate) struct WritersIgnoreReaders;

impl Flaw for WritersIgnoreReaders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match call.memory.acquire(request).await? {
            AcquireOutcome::Contended { holder: Some(holder) }
                if holder.mode.is_shared() && !request.mode.is_shared() =>
            {
                steal(call, request).await
            }
            outcome => Ok(outcome),
        }
    }
}

/// Grants a writer the key once the first of the readers has left.
#[derive(Default)]
pub(crate) struct WritersWaitForTheFirstReader;

impl Flaw for WritersWaitForTheFirstReader {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let found = held(call, &request.key).await?;
        let readers = found.map(|record| record.holders).unwrap_or_default();
        let has_first = readers.first().is_none_or(|reader| reader.fence.number() == 1);
        if has_first || request.mode.is_shared() {
            return call.memory.acquire(request).await;
        }
        steal(call, request).await
    }
}

/// Grants a reader a key that a writer holds.
#[derive(Default)]
pub(crate) struct ReadersIgnoreWriters;

impl Flaw for ReadersIgnoreWriters {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match call.memory.acquire(request).await? {
            AcquireOutcome::Contended { holder: Some(holder) }
                if !holder.mode.is_shared() && request.mode.is_shared() =>
            {
                steal(call, request).await
            }
            outcome => Ok(outcome),
        }
    }
}

/// Keeps one expiry for all readers of a key.
#[derive(Default)]
pub(crate) struct ReadersShareAnExpiry;

impl Flaw for ReadersShareAnExpiry {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut request = request.clone();
        if let Some(record) = held(call, &request.key).await? {
            request.ttl = Ttl::new(record.remaining())?;
        }
        call.memory.acquire(&request).await
    }
}

/// Returns the fence of the first reader to each reader.
#[derive(Default)]
pub(crate) struct ReadersShareAFence;

impl Flaw for ReadersShareAFence {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        let AcquireOutcome::Granted(grant) = outcome else { return Ok(outcome) };
        let record = held(call, &request.key).await?;
        let first = record.and_then(|record| record.holders.first().map(|first| first.fence));
        Ok(AcquireOutcome::Granted(Grant { fence: first.unwrap_or(grant.fence), ..grant }))
    }
}

/// Lets the id of a holder change the mode of its grant.
#[derive(Default)]
pub(crate) struct AnIdChangesItsMode;

impl Flaw for AnIdChangesItsMode {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        let holds = call.memory.lookup(&request.lock_id.into()).await?.is_some();
        if holds && matches!(outcome, AcquireOutcome::Contended { .. }) {
            return steal(call, request).await;
        }
        Ok(outcome)
    }
}

/// Refuses readers of a key while a writer holds another.
#[derive(Default)]
pub(crate) struct AllKeysHaveOneMode;

impl Flaw for AllKeysHaveOneMode {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let all = call.memory.list(&ListRequest::new("")).await?.locks;
        if request.mode.is_shared() && all.iter().any(|lock| !lock.mode.is_shared()) {
            return Ok(REFUSED);
        }
        call.memory.acquire(request).await
    }
}

/// Ends a key at its first NUL.
#[derive(Default)]
pub(crate) struct CutsKeysAtNul;

impl Flaw for CutsKeysAtNul {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut request = request.clone();
        let cut = request.key.as_str().split('\0').next();
        request.key = LockKey::new(cut.unwrap_or_default())?;
        call.memory.acquire(&request).await
    }
}

/// Changes the number of permits of a request.
async fn with_permits(call: &Call, request: &AcquireRequest, permits: u32) -> Acquired {
    let mode = Mode::Shared { permits: NonZeroU32::new(permits) };
    call.memory.acquire(&request.clone().with_mode(mode)).await
}

/// Admits one holder more than there are permits.
#[derive(Default)]
pub(crate) struct AdmitsOneTooMany;

impl Flaw for AdmitsOneTooMany {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match request.mode.permits() {
            Some(permits) => with_permits(call, request, permits.get() + 1).await,
            None => call.memory.acquire(request).await,
        }
    }
}

/// Treats a single permit as no limit.
#[derive(Default)]
pub(crate) struct OnePermitIsNoLimit;

impl Flaw for OnePermitIsNoLimit {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match request.mode.permits() {
            Some(NonZeroU32::MIN) => with_permits(call, request, 0).await,
            _ => call.memory.acquire(request).await,
        }
    }
}

/// Counts the holders, and admits one more in a step of its own.
#[derive(Default)]
pub(crate) struct CountsThenWrites;

impl Flaw for CountsThenWrites {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let Some(permits) = request.mode.permits() else {
            return call.memory.acquire(request).await;
        };
        let count = sharers(held(call, &request.key).await?.as_ref()).len();
        tokio::task::yield_now().await;
        if count >= permits.get() as usize {
            return Ok(REFUSED);
        }
        with_permits(call, request, u32::MAX).await
    }
}

/// Takes a permit for each request, also for one that is refused.
#[derive(Default)]
pub(crate) struct RefusedRequestsTakePermits(AtomicUsize);

impl Flaw for RefusedRequestsTakePermits {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let count = sharers(held(call, &request.key).await?.as_ref()).len();
        let taken = count + self.0.load(Ordering::SeqCst);
        if request.mode.permits().is_some_and(|permits| taken >= permits.get() as usize) {
            self.0.fetch_add(1, Ordering::SeqCst);
            return Ok(REFUSED);
        }
        call.memory.acquire(request).await
    }
}

/// Counts those that have expired as holders.
#[derive(Default)]
pub(crate) struct CountsExpiredHolders(Mutex<Vec<LockId>>);

impl Flaw for CountsExpiredHolders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let count = self.0.lock().unwrap().len();
        if request.mode.permits().is_some_and(|permits| count >= permits.get() as usize) {
            return Ok(REFUSED);
        }
        let outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Granted(_) = outcome {
            self.0.lock().unwrap().push(request.lock_id);
        }
        Ok(outcome)
    }

    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        self.0.lock().unwrap().retain(|lock_id| *lock_id != lock.lock_id);
        call.memory.release(lock).await
    }
}

/// Accepts any number of permits for a key that is shared.
#[derive(Default)]
pub(crate) struct AcceptsAnyNumberOfPermits;

impl Flaw for AcceptsAnyNumberOfPermits {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut request = request.clone();
        if let Some(record) = held(call, &request.key).await?
            && request.mode.is_shared()
        {
            request.mode = record.mode;
        }
        call.memory.acquire(&request).await
    }
}

/// Reports another number of permits as contention.
#[derive(Default)]
pub(crate) struct RefusesAnotherNumberOfPermits;

impl Flaw for RefusesAnotherNumberOfPermits {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await;
        match outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidArgument) {
            true => Ok(REFUSED),
            false => outcome,
        }
    }
}

/// Keeps the lower half of the bits of a number of permits.
#[derive(Default)]
pub(crate) struct KeepsHalfOfThePermits;

impl Flaw for KeepsHalfOfThePermits {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match request.mode.permits() {
            Some(permits) => with_permits(call, request, permits.get() & 0xffff).await,
            None => call.memory.acquire(request).await,
        }
    }
}

/// Refuses a holder that repeats its request once no permit is free.
#[derive(Default)]
pub(crate) struct RefusesTheHoldersOfAFullKey;

impl Flaw for RefusesTheHoldersOfAFullKey {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let count = sharers(held(call, &request.key).await?.as_ref()).len();
        if request.mode.permits().is_some_and(|permits| count >= permits.get() as usize) {
            return Ok(REFUSED);
        }
        call.memory.acquire(request).await
    }
}

/// Keeps the number of permits of the first holder of a key for ever.
#[derive(Default)]
pub(crate) struct NeverForgetsThePermits(Mutex<HashMap<LockKey, Mode>>);

impl Flaw for NeverForgetsThePermits {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let first = *self.0.lock().unwrap().entry(request.key.clone()).or_insert(request.mode);
        if first != request.mode {
            return Err(permits_differ(request.mode, first));
        }
        call.memory.acquire(request).await
    }
}
