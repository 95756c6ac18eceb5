//! Flaws in what is granted, and to whom.

use std::{sync::Mutex, time::Duration};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Clock, Error, ErrorKind, ExtendOutcome, Grant, LockBackend,
    LockKey, LockRef, Operation, Owner, ReleaseOutcome, Ttl,
};

use crate::store::{Acquired, Extended, Flaw, Released, Step};

/// Takes the key from its holder.
async fn steal(step: &Step, request: &AcquireRequest) -> Acquired {
    step.memory.force_release(&request.key).await?;
    step.memory.acquire(request).await
}

/// Grants a key that is held.
#[derive(Default)]
pub(crate) struct NotExclusive;

impl Flaw for NotExclusive {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        match step.memory.acquire(request).await? {
            AcquireOutcome::Contended { .. } => steal(step, request).await,
            granted => Ok(granted),
        }
    }
}

/// Looks and writes in two steps, between which others come.
#[derive(Default)]
pub(crate) struct LooksThenWrites;

impl Flaw for LooksThenWrites {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let found = step.memory.lookup(&request.key.clone().into()).await?;
        tokio::task::yield_now().await;
        match found {
            Some(_) => step.memory.acquire(request).await,
            None => steal(step, request).await,
        }
    }
}

/// Takes the id that holds the key for a contender.
#[derive(Default)]
pub(crate) struct NotIdempotent;

impl Flaw for NotIdempotent {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let found = step.memory.lookup(&request.lock_id.into()).await?;
        match step.memory.acquire(request).await? {
            AcquireOutcome::Granted(_) if found.is_some() => {
                Ok(AcquireOutcome::Contended { holder: None })
            }
            outcome => Ok(outcome),
        }
    }
}

/// Starts the ttl anew when the holder asks again.
#[derive(Default)]
pub(crate) struct AskingAgainExtends;

impl Flaw for AskingAgainExtends {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let _ = step.memory.extend(&request.lock_id.into(), request.ttl).await?;
        step.memory.acquire(request).await
    }
}

/// Moves the expiry of the holder when another one asks.
#[derive(Default)]
pub(crate) struct ContenderExtends;

impl Flaw for ContenderExtends {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let outcome = step.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { .. } = outcome
            && let Some(record) = step.memory.lookup(&request.key.clone().into()).await?
        {
            let _ = step.memory.extend(&record.lock_id.into(), request.ttl).await?;
        }
        Ok(outcome)
    }
}

/// Grants a key as soon as its holder has expired.
#[derive(Default)]
pub(crate) struct NoGrace;

impl Flaw for NoGrace {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        match step.memory.acquire(request).await? {
            AcquireOutcome::Contended { holder: Some(holder) }
                if holder.remaining == Some(Duration::ZERO) =>
            {
                steal(step, request).await
            }
            outcome => Ok(outcome),
        }
    }
}

/// Lets a contender wait for the expiry alone.
#[derive(Default)]
pub(crate) struct HolderWithoutGrace;

impl Flaw for HolderWithoutGrace {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let mut outcome = step.memory.acquire(request).await?;
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
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        step.memory.acquire(&request.clone().with_owner(None)).await
    }
}

/// Keeps the label of a former holder where the new one has none.
#[derive(Default)]
pub(crate) struct KeepsAFormerOwner(Mutex<Option<Owner>>);

impl Flaw for KeepsAFormerOwner {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let owner = request.owner.clone().or_else(|| self.0.lock().unwrap().clone());
        self.0.lock().unwrap().clone_from(&owner);
        step.memory.acquire(&request.clone().with_owner(owner)).await
    }
}

/// Takes keys that differ in case for one.
#[derive(Default)]
pub(crate) struct IgnoresCase;

impl Flaw for IgnoresCase {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let mut request = request.clone();
        request.key = LockKey::new(&request.key.as_str().to_lowercase())?;
        step.memory.acquire(&request).await
    }
}

/// Reads the present before it waits for the store, and counts the ttl of a grant from there.
#[derive(Default)]
pub(crate) struct GrantsLate;

impl Flaw for GrantsLate {
    const STEP: Duration = Duration::from_secs(1);

    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let outcome = step.memory.acquire(request).await?;
        let AcquireOutcome::Granted(grant) = outcome else { return Ok(outcome) };
        let lock = request.lock_id.into();
        let expires_at = match count_from_sending(step, &lock, request.ttl).await? {
            ExtendOutcome::Extended { expires_at } => expires_at,
            ExtendOutcome::NotHeld(_) => grant.expires_at,
        };
        Ok(AcquireOutcome::Granted(Grant { expires_at, ..grant }))
    }
}

/// Reads the present before it waits for the store, and counts an extend from there.
#[derive(Default)]
pub(crate) struct ExtendsLate;

impl Flaw for ExtendsLate {
    const STEP: Duration = Duration::from_secs(1);

    async fn extend(&self, step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
        count_from_sending(step, lock, ttl).await
    }
}

async fn count_from_sending(step: &Step, lock: &LockRef, ttl: Ttl) -> Extended {
    let waited = step.clock.now().since(step.sent);
    step.memory.extend(lock, Ttl::new(ttl.as_duration() - waited)?).await
}

/// Leaves a released key taken for its grace.
#[derive(Default)]
pub(crate) struct KeepsTheGraceOfAReleased;

impl Flaw for KeepsTheGraceOfAReleased {
    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        let last = Ttl::new(Duration::from_millis(1))?;
        Ok(match step.memory.extend(lock, last).await? {
            ExtendOutcome::Extended { .. } => ReleaseOutcome::Released,
            ExtendOutcome::NotHeld(why) => ReleaseOutcome::NotHeld(why),
        })
    }
}

/// Reports an error as not applied although the grant is stored.
#[derive(Default)]
pub(crate) struct StoresWhatItRefuses;

impl Flaw for StoresWhatItRefuses {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let outcome = step.memory.acquire(request).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Aborted) {
            let unknown = syncguard_core::LockId::mint().unwrap();
            let stored = AcquireRequest::new(request.key.clone(), unknown, request.ttl);
            let _ = step.memory.acquire(&stored).await?;
            return Err(Error::new(ErrorKind::Aborted, Operation::Acquire).not_applied());
        }
        outcome
    }
}
