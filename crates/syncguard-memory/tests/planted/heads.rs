//! Flaws in what lookups, lists, contention and notifications report of shared keys.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use syncguard_core::{
    Error, LockId, LockKey, Timestamp,
    backend::{
        AcquireOutcome, AcquireRequest, ListRequest, LockBackend, LockQuery, LockRef, Mode,
        SharedHolder,
    },
};
use syncguard_memory::MemoryBackend;
use tokio::sync::Notify;

use crate::{
    sharing::held,
    store::{Acquired, Call, Flaw, Found, Listed, Released},
};

/// Shows the last reader in place of all.
#[derive(Default)]
pub(crate) struct ShowsTheLastReader;

impl Flaw for ShowsTheLastReader {
    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let mut found = call.memory.lookup(query).await?;
        if let Some(record) = &mut found
            && let Some(last) = record.holders.last()
        {
            record.acquired_at = last.acquired_at;
            record.expires_at = last.expires_at;
        }
        Ok(found)
    }
}

/// Finds a shared key only by its name.
#[derive(Default)]
pub(crate) struct FindsNoReaderById;

impl Flaw for FindsNoReaderById {
    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let found = call.memory.lookup(query).await?;
        let by_id = matches!(query, LockQuery::ById(_));
        Ok(found.filter(|record| !(by_id && record.mode.is_shared())))
    }
}

/// Shows the readers that held the key before its writer.
#[derive(Default)]
pub(crate) struct ShowsFormerReaders(Mutex<HashMap<LockKey, Vec<SharedHolder>>>);

impl Flaw for ShowsFormerReaders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await;
        if let Some(record) = held(call, &request.key).await? {
            self.0.lock().unwrap().entry(record.key).or_insert(record.holders);
        }
        outcome
    }

    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let mut found = call.memory.lookup(query).await?;
        if let Some(record) = &mut found
            && let Some(former) = self.0.lock().unwrap().get(&record.key)
            && record.holders.is_empty()
        {
            record.holders.clone_from(former);
        }
        Ok(found)
    }
}

/// Never shows an earlier expiry of a key than before.
#[derive(Default)]
pub(crate) struct TheExpiryNeverShrinks(Mutex<HashMap<LockKey, Timestamp>>);

impl Flaw for TheExpiryNeverShrinks {
    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let mut found = call.memory.lookup(query).await?;
        if let Some(record) = &mut found {
            let mut latest = self.0.lock().unwrap();
            let latest = latest.entry(record.key.clone()).or_insert(record.expires_at);
            *latest = record.expires_at.max(*latest);
            record.expires_at = *latest;
        }
        Ok(found)
    }
}

/// Lists a shared key once for each of its holders.
#[derive(Default)]
pub(crate) struct ListsEachReader;

impl Flaw for ListsEachReader {
    async fn list(&self, call: &Call, request: &ListRequest) -> Listed {
        let mut page = call.memory.list(&request.clone().limit(1)).await?;
        let again = page.locks.last().filter(|lock| lock.holders.len() > 1).cloned();
        page.locks.extend(again);
        Ok(page)
    }
}

/// Ends the first of the shared grants.
#[derive(Default)]
pub(crate) struct ForceEndsOneReader;

impl Flaw for ForceEndsOneReader {
    async fn force_release(&self, call: &Call, key: &LockKey) -> Found {
        let found = held(call, key).await?;
        match found.as_ref().and_then(|record| record.holders.first()) {
            Some(first) => {
                let _ = call.memory.release(&first.lock_id.into()).await?;
                Ok(found)
            }
            None => call.memory.force_release(key).await,
        }
    }
}

/// Ends all shared grants, and leaves the announcement.
#[derive(Default)]
pub(crate) struct ForceLeavesTheAnnouncement;

impl Flaw for ForceLeavesTheAnnouncement {
    async fn force_release(&self, call: &Call, key: &LockKey) -> Found {
        let found = held(call, key).await?;
        for holder in found.iter().flat_map(|record| &record.holders) {
            let _ = call.memory.release(&holder.lock_id.into()).await?;
        }
        Ok(found)
    }
}

/// Reports to a writer when the first of the readers expires.
#[derive(Default)]
pub(crate) struct ReportsTheFirstReaderToExpire;

/// Reports to a request for a permit when the last holder expires.
#[derive(Default)]
pub(crate) struct ReportsTheLastPermitToExpire;

/// Replaces the time until the key is free that contention reports.
async fn free_in(
    call: &Call,
    request: &AcquireRequest,
    choose: impl Fn(Vec<Duration>) -> Option<Duration>,
) -> Acquired {
    let mut outcome = call.memory.acquire(request).await?;
    if let AcquireOutcome::Contended { holder: Some(holder) } = &mut outcome
        && let Some(record) = held(call, &request.key).await?
    {
        let left = |holder: &SharedHolder| holder.expires_at.since(record.observed_at);
        let grace = call.memory.capabilities().grace;
        holder.free_in = choose(record.holders.iter().map(left).collect()).map(|left| left + grace);
    }
    Ok(outcome)
}

impl Flaw for ReportsTheFirstReaderToExpire {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        free_in(call, request, |left| left.into_iter().min()).await
    }
}

impl Flaw for ReportsTheLastPermitToExpire {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        free_in(call, request, |left| left.into_iter().max()).await
    }
}

/// Reports a writer as a holder in shared mode.
#[derive(Default)]
pub(crate) struct ReportsTheModeOfTheRequest;

impl Flaw for ReportsTheModeOfTheRequest {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { holder: Some(holder) } = &mut outcome {
            holder.mode = request.mode;
        }
        Ok(outcome)
    }
}

/// Notifies waiters only when a key has become free.
#[derive(Default)]
pub(crate) struct FreedPermitsDoNotNotify(Notify);

impl FreedPermitsDoNotNotify {
    async fn notify_if_free(&self, call: &Call, key: Option<LockKey>) -> Result<(), Error> {
        if let Some(key) = key
            && held(call, &key).await?.is_none()
        {
            self.0.notify_waiters();
        }
        Ok(())
    }
}

impl Flaw for FreedPermitsDoNotNotify {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let found = call.memory.lookup(&lock.lock_id.into()).await?;
        let outcome = call.memory.release(lock).await;
        self.notify_if_free(call, found.map(|record| record.key)).await?;
        outcome
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        call.memory.abandon(lock_id, key).await?;
        self.notify_if_free(call, Some(key.clone())).await
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        self.0.notified().await;
    }
}

/// Notifies waiters when a grant ends, but not when an announcement is abandoned.
#[derive(Default)]
pub(crate) struct AbandonedAnnouncementsDoNotNotify(Notify);

impl Flaw for AbandonedAnnouncementsDoNotNotify {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let outcome = call.memory.release(lock).await;
        self.0.notify_waiters();
        outcome
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let held = call.memory.lookup(&lock_id.into()).await?;
        call.memory.abandon(lock_id, key).await?;
        if held.is_some() {
            self.0.notify_waiters();
        }
        Ok(())
    }

    async fn released(&self, _memory: &MemoryBackend, _key: &LockKey) {
        self.0.notified().await;
    }
}

/// Counts the permits of a key as its holders.
#[derive(Default)]
pub(crate) struct ReportsThePermitsAsHolders;

impl Flaw for ReportsThePermitsAsHolders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { holder: Some(holder) } = &mut outcome
            && let Mode::Shared { permits } = holder.mode
        {
            holder.count = Some(permits.map_or(0, |permits| permits.get() as usize));
        }
        Ok(outcome)
    }
}
