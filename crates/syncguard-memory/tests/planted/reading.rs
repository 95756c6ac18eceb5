//! Flaws in lookups, lists, capabilities and notifications.

use std::{collections::HashMap, future, sync::Mutex};

use syncguard_core::{
    Error, ErrorKind, LockId, LockKey, Operation,
    backend::{
        AcquireRequest, Capabilities, Fencing, ListRequest, LockBackend, LockQuery, LockRecord,
        LockRef, WakeUp,
    },
};
use syncguard_memory::MemoryBackend;
use tokio::sync::Notify;

use crate::store::{Acquired, Call, Extended, Flaw, Found, Listed, Released};

/// Returns expired grants.
#[derive(Default)]
pub(crate) struct ReturnsExpiredGrants(Mutex<HashMap<LockKey, LockRecord>>);

impl Flaw for ReturnsExpiredGrants {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await;
        if let Some(record) = call.memory.lookup(&request.key.clone().into()).await? {
            self.0.lock().unwrap().insert(record.key.clone(), record);
        }
        outcome
    }

    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        self.0.lock().unwrap().retain(|_, record| record.lock_id != lock.lock_id);
        call.memory.release(lock).await
    }

    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let found = call.memory.lookup(query).await?;
        let kept = self.0.lock().unwrap();
        Ok(found.or_else(|| match query {
            LockQuery::ByKey(key) => kept.get(key).cloned(),
            LockQuery::ById(id) => kept.values().find(|record| record.lock_id == *id).cloned(),
        }))
    }
}

/// Returns another lock for an id, if there is one.
#[derive(Default)]
pub(crate) struct ReturnsAnotherLock;

impl Flaw for ReturnsAnotherLock {
    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let found = call.memory.lookup(query).await?;
        let LockQuery::ById(lock_id) = query else { return Ok(found) };
        let page = call.memory.list(&ListRequest::new("")).await?;
        let other = page.locks.into_iter().find(|lock| lock.lock_id != *lock_id);
        Ok(found.map(|found| other.unwrap_or(found)))
    }
}

/// Returns the lock of another id for an id that holds nothing.
#[derive(Default)]
pub(crate) struct ReturnsALockForAnUnknownId;

impl Flaw for ReturnsALockForAnUnknownId {
    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        match (call.memory.lookup(query).await?, query) {
            (None, LockQuery::ById(_)) => {
                Ok(call.memory.list(&ListRequest::new("")).await?.locks.pop())
            }
            (found, _) => Ok(found),
        }
    }
}

/// Returns no owner after a grant was extended.
#[derive(Default)]
pub(crate) struct ExtendLosesTheOwner(Mutex<Vec<LockId>>);

impl Flaw for ExtendLosesTheOwner {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: syncguard_core::Ttl) -> Extended {
        self.0.lock().unwrap().push(lock.lock_id);
        call.memory.extend(lock, ttl).await
    }

    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let mut found = call.memory.lookup(query).await?;
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
    async fn list(&self, call: &Call, request: &ListRequest) -> Listed {
        let mut page = call.memory.list(request).await?;
        page.locks.pop();
        Ok(page)
    }
}

/// Begins each page with the last lock of the page before.
#[derive(Default)]
pub(crate) struct ListRepeatsOne;

impl Flaw for ListRepeatsOne {
    async fn list(&self, call: &Call, request: &ListRequest) -> Listed {
        let Some(after) = &request.after else { return call.memory.list(request).await };
        let mut page = call.memory.list(&request.clone().limit(request.limit - 1)).await?;
        let last = LockKey::new(after.as_str())?;
        page.locks.extend(call.memory.lookup(&last.into()).await?);
        Ok(page)
    }
}

/// Returns all locks on one page.
#[derive(Default)]
pub(crate) struct ListIgnoresTheLimit;

impl Flaw for ListIgnoresTheLimit {
    async fn list(&self, call: &Call, request: &ListRequest) -> Listed {
        call.memory.list(&request.clone().limit(1_000)).await
    }
}

/// Lists all keys.
#[derive(Default)]
pub(crate) struct ListIgnoresThePrefix;

impl Flaw for ListIgnoresThePrefix {
    async fn list(&self, call: &Call, request: &ListRequest) -> Listed {
        let mut all = ListRequest::new("").limit(request.limit);
        all.after.clone_from(&request.after);
        call.memory.list(&all).await
    }
}

/// Reports the capability to list, but does not list.
#[derive(Default)]
pub(crate) struct ClaimsAList;

impl Flaw for ClaimsAList {
    async fn list(&self, _step: &Call, _request: &ListRequest) -> Listed {
        Err(Error::new(ErrorKind::Unsupported).with_operation(Operation::List))
    }
}

/// Reports that its fences outlast the process.
#[derive(Default)]
pub(crate) struct ClaimsToBeDurable;

impl Flaw for ClaimsToBeDurable {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities().with_fencing(Fencing::Durable)
    }
}

/// Reports a longer grace than it keeps.
#[derive(Default)]
pub(crate) struct ClaimsALongerGrace;

impl Flaw for ClaimsALongerGrace {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities().with_grace(Capabilities::GRACE * 4)
    }
}

/// Reports that it wakes waiters, but does not.
#[derive(Default)]
pub(crate) struct NeverWakes;

impl Flaw for NeverWakes {
    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        future::pending().await
    }
}

/// Reports that it wakes no waiters, but does.
#[derive(Default)]
pub(crate) struct WakesWithoutTheCapability;

impl Flaw for WakesWithoutTheCapability {
    fn capabilities(&self, memory: &MemoryBackend) -> Capabilities {
        memory.capabilities().with_wake_up(WakeUp::None)
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {}
}

/// Resolves every subscription without a release.
#[derive(Default)]
pub(crate) struct AlwaysWakes;

impl Flaw for AlwaysWakes {
    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        tokio::task::yield_now().await;
    }
}

/// Subscribes only after the first poll.
#[derive(Default)]
pub(crate) struct SubscribesLate;

impl Flaw for SubscribesLate {
    async fn released(&self, memory: &MemoryBackend, key: &LockKey) {
        tokio::task::yield_now().await;
        memory.released(key).await;
    }
}

/// Notifies waiters only of releases.
#[derive(Default)]
pub(crate) struct NotifiesOnlyOfReleases(Notify);

impl Flaw for NotifiesOnlyOfReleases {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let outcome = call.memory.release(lock).await;
        self.0.notify_waiters();
        outcome
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        self.0.notified().await;
    }
}

/// Notifies waiters of releases and of abandoned grants, but not of forced releases.
#[derive(Default)]
pub(crate) struct ForceReleaseDoesNotNotify(Notify);

impl Flaw for ForceReleaseDoesNotNotify {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let outcome = call.memory.release(lock).await;
        self.0.notify_waiters();
        outcome
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let abandoned = call.memory.abandon(lock_id, key).await;
        self.0.notify_waiters();
        abandoned
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        self.0.notified().await;
    }
}
