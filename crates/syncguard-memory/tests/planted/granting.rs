//! Flaws in what is granted, and to whom.

use std::{sync::Mutex, time::Duration};

use syncguard_core::{
    Clock, Error, ErrorKind, LockKey, Operation, Owner, ReleaseOutcome, Ttl,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, Grant, LockBackend, LockRef},
};

use crate::store::{Acquired, Call, Extended, Flaw, Released};

/// Takes the key from its holder.
pub(crate) async fn steal(call: &Call, request: &AcquireRequest) -> Acquired {
    call.memory.force_release(&request.key).await?;
    call.memory.acquire(request).await
}

/// Grants a key that is held.
#[derive(Default)]
pub(crate) struct NotExclusive;

impl Flaw for NotExclusive {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match call.memory.acquire(request).await? {
            AcquireOutcome::Contended { .. } => steal(call, request).await,
            granted => Ok(granted),
        }
    }
}

/// Reads and writes in two steps that are not atomic.
#[derive(Default)]
pub(crate) struct ReadsThenWrites;

impl Flaw for ReadsThenWrites {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let found = call.memory.lookup(&request.key.clone().into()).await?;
        tokio::task::yield_now().await;
        match found {
            Some(_) => call.memory.acquire(request).await,
            None => steal(call, request).await,
        }
    }
}

/// Treats the id that holds the key as a contender.
#[derive(Default)]
pub(crate) struct NotIdempotent;

impl Flaw for NotIdempotent {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let found = call.memory.lookup(&request.lock_id.into()).await?;
        match call.memory.acquire(request).await? {
            AcquireOutcome::Granted(_) if found.is_some() => {
                Ok(AcquireOutcome::Contended { holder: None })
            }
            outcome => Ok(outcome),
        }
    }
}

/// Restarts the ttl when the holder repeats its request.
#[derive(Default)]
pub(crate) struct RepeatedRequestExtends;

impl Flaw for RepeatedRequestExtends {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let _ = call.memory.extend(&request.lock_id.into(), request.ttl).await?;
        call.memory.acquire(request).await
    }
}

/// Moves the expiry of the holder when a contender requests the key.
#[derive(Default)]
pub(crate) struct ContenderExtends;

impl Flaw for ContenderExtends {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { .. } = outcome
            && let Some(record) = call.memory.lookup(&request.key.clone().into()).await?
        {
            let _ = call.memory.extend(&record.lock_id.into(), request.ttl).await?;
        }
        Ok(outcome)
    }
}

/// Grants a key as soon as its holder has expired.
#[derive(Default)]
pub(crate) struct NoGrace;

impl Flaw for NoGrace {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match call.memory.acquire(request).await? {
            AcquireOutcome::Contended { holder: Some(holder) }
                if holder.remaining == Some(Duration::ZERO) =>
            {
                steal(call, request).await
            }
            outcome => Ok(outcome),
        }
    }
}

/// Reports that the key is free at the expiry, without the grace.
#[derive(Default)]
pub(crate) struct HolderWithoutGrace;

impl Flaw for HolderWithoutGrace {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { holder: Some(holder) } = &mut outcome {
            holder.free_in = holder.remaining;
        }
        Ok(outcome)
    }
}

/// Drops the owner label.
#[derive(Default)]
pub(crate) struct LosesTheOwner;

impl Flaw for LosesTheOwner {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        call.memory.acquire(&request.clone().with_owner(None)).await
    }
}

/// Keeps the label of a former holder if the new one has none.
#[derive(Default)]
pub(crate) struct KeepsAFormerOwner(Mutex<Option<Owner>>);

impl Flaw for KeepsAFormerOwner {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let owner = request.owner.clone().or_else(|| self.0.lock().unwrap().clone());
        self.0.lock().unwrap().clone_from(&owner);
        call.memory.acquire(&request.clone().with_owner(owner)).await
    }
}

/// Treats keys that differ in case as one key.
#[derive(Default)]
pub(crate) struct IgnoresCase;

impl Flaw for IgnoresCase {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut request = request.clone();
        request.key = LockKey::new(&request.key.as_str().to_lowercase())?;
        call.memory.acquire(&request).await
    }
}

/// Reads the clock before the wait for the store, and counts the ttl of a grant from that time.
#[derive(Default)]
pub(crate) struct CountsGrantsFromSending;

impl Flaw for CountsGrantsFromSending {
    const OPERATION_TIME: Duration = Duration::from_secs(1);

    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        let AcquireOutcome::Granted(grant) = outcome else { return Ok(outcome) };
        let lock = request.lock_id.into();
        let expires_at = match count_from_sending(call, &lock, request.ttl).await? {
            ExtendOutcome::Extended { expires_at } => expires_at,
            ExtendOutcome::NotHeld(_) => grant.expires_at,
        };
        Ok(AcquireOutcome::Granted(Grant { expires_at, ..grant }))
    }
}

/// Reads the clock before the wait for the store, and counts the ttl of an extend from that time.
#[derive(Default)]
pub(crate) struct CountsExtendsFromSending;

impl Flaw for CountsExtendsFromSending {
    const OPERATION_TIME: Duration = Duration::from_secs(1);

    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        count_from_sending(call, lock, ttl).await
    }
}

async fn count_from_sending(call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
    let waited = call.clock.now().since(call.sent);
    call.memory.extend(lock, Ttl::new(ttl.as_duration() - waited)?).await
}

/// Keeps a released key locked for its grace.
#[derive(Default)]
pub(crate) struct ReleasedKeyKeepsItsGrace;

impl Flaw for ReleasedKeyKeepsItsGrace {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let last = Ttl::new(Duration::from_millis(1))?;
        Ok(match call.memory.extend(lock, last).await? {
            ExtendOutcome::Extended { .. } => ReleaseOutcome::Released,
            ExtendOutcome::NotHeld(reason) => ReleaseOutcome::NotHeld(reason),
        })
    }
}

/// Reports an error as not applied although the grant is stored.
#[derive(Default)]
pub(crate) struct StoresRejectedRequests;

impl Flaw for StoresRejectedRequests {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Aborted) {
            let unknown = syncguard_core::LockId::mint().unwrap();
            let stored = AcquireRequest::new(request.key.clone(), unknown, request.ttl);
            let _ = call.memory.acquire(&stored).await?;
            return Err(Error::new(ErrorKind::Aborted)
                .with_operation(Operation::Acquire)
                .not_applied());
        }
        outcome
    }
}
