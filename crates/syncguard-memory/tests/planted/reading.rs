//! Flaws in what is looked up, listed, claimed and notified.

use std::{collections::HashMap, future, sync::Mutex};

use syncguard_core::{
    AcquireRequest, Capabilities, Error, ErrorKind, Fencing, ListRequest, LockBackend, LockId,
    LockKey, LockQuery, LockRecord, LockRef, Operation, WakeUp,
};
use syncguard_memory::MemoryBackend;
use tokio::sync::Notify;

use crate::store::{Acquired, Extended, Flaw, Found, Listed, Released, Step};

/// Shows grants that are over.
#[derive(Default)]
pub(crate) struct ShowsTheExpired(Mutex<HashMap<LockKey, LockRecord>>);

impl Flaw for ShowsTheExpired {
    async fn acquire(&self, step: &Step, request: &AcquireRequest) -> Acquired {
        let outcome = step.memory.acquire(request).await;
        if let Some(record) = step.memory.lookup(&request.key.clone().into()).await? {
            self.0.lock().unwrap().insert(record.key.clone(), record);
        }
        outcome
    }

    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        self.0.lock().unwrap().retain(|_, record| record.lock_id != lock.lock_id);
        step.memory.release(lock).await
    }

    async fn lookup(&self, step: &Step, query: &LockQuery) -> Found {
        let found = step.memory.lookup(query).await?;
        let kept = self.0.lock().unwrap();
        Ok(found.or_else(|| match query {
            LockQuery::ByKey(key) => kept.get(key).cloned(),
            LockQuery::ById(id) => kept.values().find(|record| record.lock_id == *id).cloned(),
        }))
    }
}

/// Answers for an id with another lock, where there is one.
#[derive(Default)]
pub(crate) struct AnswersForAnotherKey;

impl Flaw for AnswersForAnotherKey {
    async fn lookup(&self, step: &Step, query: &LockQuery) -> Found {
        let found = step.memory.lookup(query).await?;
        let LockQuery::ById(lock_id) = query else { return Ok(found) };
        let page = step.memory.list(&ListRequest::new("")).await?;
        let other = page.locks.into_iter().find(|lock| lock.lock_id != *lock_id);
        Ok(found.map(|found| other.unwrap_or(found)))
    }
}

/// Answers for an id that holds nothing with a lock of another.
#[derive(Default)]
pub(crate) struct AnswersForAnUnknownId;

impl Flaw for AnswersForAnUnknownId {
    async fn lookup(&self, step: &Step, query: &LockQuery) -> Found {
        match (step.memory.lookup(query).await?, query) {
            (None, LockQuery::ById(_)) => {
                Ok(step.memory.list(&ListRequest::new("")).await?.locks.pop())
            }
            (found, _) => Ok(found),
        }
    }
}

/// Shows no owner once a grant was extended.
#[derive(Default)]
pub(crate) struct ExtendLosesTheOwner(Mutex<Vec<LockId>>);

impl Flaw for ExtendLosesTheOwner {
    async fn extend(&self, step: &Step, lock: &LockRef, ttl: syncguard_core::Ttl) -> Extended {
        self.0.lock().unwrap().push(lock.lock_id);
        step.memory.extend(lock, ttl).await
    }

    async fn lookup(&self, step: &Step, query: &LockQuery) -> Found {
        let mut found = step.memory.lookup(query).await?;
        if let Some(record) = &mut found
            && self.0.lock().unwrap().contains(&record.lock_id)
        {
            record.owner = None;
        }
        Ok(found)
    }
}

/// Leaves out the last lock of each page.
#[derive(Default)]
pub(crate) struct ListDropsOne;

impl Flaw for ListDropsOne {
    async fn list(&self, step: &Step, request: &ListRequest) -> Listed {
        let mut page = step.memory.list(request).await?;
        page.locks.pop();
        Ok(page)
    }
}

/// Begins each page with the last lock of the page before.
#[derive(Default)]
pub(crate) struct ListRepeatsOne;

impl Flaw for ListRepeatsOne {
    async fn list(&self, step: &Step, request: &ListRequest) -> Listed {
        let Some(after) = &request.after else { return step.memory.list(request).await };
        let mut page = step.memory.list(&request.clone().limit(request.limit - 1)).await?;
        let last = LockKey::new(after.as_str())?;
        page.locks.extend(step.memory.lookup(&last.into()).await?);
        Ok(page)
    }
}

/// Gives all locks on one page.
#[derive(Default)]
pub(crate) struct ListIgnoresTheLimit;

impl Flaw for ListIgnoresTheLimit {
    async fn list(&self, step: &Step, request: &ListRequest) -> Listed {
        step.memory.list(&request.clone().limit(1_000)).await
    }
}

/// Lists all keys.
#[derive(Default)]
pub(crate) struct ListIgnoresThePrefix;

impl Flaw for ListIgnoresThePrefix {
    async fn list(&self, step: &Step, request: &ListRequest) -> Listed {
        let mut all = ListRequest::new("").limit(request.limit);
        all.after.clone_from(&request.after);
        step.memory.list(&all).await
    }
}

/// Claims a list that it does not have.
#[derive(Default)]
pub(crate) struct ClaimsAList;

impl Flaw for ClaimsAList {
    async fn list(&self, _step: &Step, _request: &ListRequest) -> Listed {
        Err(Error::new(ErrorKind::Unsupported, Operation::List))
    }
}

/// Claims a shared mode that it does not have.
#[derive(Default)]
pub(crate) struct ClaimsSharedMode;

impl Flaw for ClaimsSharedMode {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities().with_shared()
    }
}

/// Claims that its fences outlast the process.
#[derive(Default)]
pub(crate) struct ClaimsToBeDurable;

impl Flaw for ClaimsToBeDurable {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities().with_fencing(Fencing::Durable)
    }
}

/// Claims a longer grace than it keeps.
#[derive(Default)]
pub(crate) struct ClaimsALongerGrace;

impl Flaw for ClaimsALongerGrace {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities().with_grace(Capabilities::GRACE * 4)
    }
}

/// Claims that it wakes waiters.
#[derive(Default)]
pub(crate) struct NeverWakes;

impl Flaw for NeverWakes {
    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        future::pending().await
    }
}

/// Claims that it wakes nobody, and does.
#[derive(Default)]
pub(crate) struct WakesUnclaimed;

impl Flaw for WakesUnclaimed {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities().with_wake_up(WakeUp::None)
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {}
}

/// Wakes whoever subscribes, whatever happens.
#[derive(Default)]
pub(crate) struct AlwaysWakes;

impl Flaw for AlwaysWakes {
    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        tokio::task::yield_now().await;
    }
}

/// Subscribes after its first poll.
#[derive(Default)]
pub(crate) struct SubscribesLate;

impl Flaw for SubscribesLate {
    async fn released(&self, memory: &MemoryBackend, key: &LockKey) {
        tokio::task::yield_now().await;
        memory.released(key).await;
    }
}

/// Notifies waiters of releases alone.
#[derive(Default)]
pub(crate) struct NotifiesOfReleasesAlone(Notify);

impl Flaw for NotifiesOfReleasesAlone {
    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        let outcome = step.memory.release(lock).await;
        self.0.notify_waiters();
        outcome
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        self.0.notified().await;
    }
}

/// Notifies waiters of releases and of abandoned grants, but not of what is released by force.
#[derive(Default)]
pub(crate) struct ForceNotifiesNoOne(Notify);

impl Flaw for ForceNotifiesNoOne {
    async fn release(&self, step: &Step, lock: &LockRef) -> Released {
        let outcome = step.memory.release(lock).await;
        self.0.notify_waiters();
        outcome
    }

    async fn abandon(&self, step: &Step, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let abandoned = step.memory.abandon(lock_id, key).await;
        self.0.notify_waiters();
        abandoned
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        self.0.notified().await;
    }
}
