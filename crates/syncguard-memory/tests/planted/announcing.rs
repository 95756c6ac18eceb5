//! Flaws in announcements.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use syncguard_core::{
    Error, LockId, LockKey, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, LockQuery, LockRecord, LockRef,
        NotHeld,
    },
};

use crate::{
    sharing::{REFUSED, held},
    store::{Acquired, Call, Extended, Flaw, Found, Released},
};

/// The last request for each key that was refused with an announcement, until it is abandoned.
#[derive(Default)]
struct Announced(Mutex<HashMap<LockKey, LockId>>);

impl Announced {
    fn note(&self, request: &AcquireRequest, outcome: &AcquireOutcome) {
        if request.announce.is_some() && matches!(outcome, AcquireOutcome::Contended { .. }) {
            self.0.lock().unwrap().insert(request.key.clone(), request.lock_id);
        }
    }

    fn by(&self, key: &LockKey) -> Option<LockId> {
        self.0.lock().unwrap().get(key).copied()
    }

    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        self.note(request, &outcome);
        Ok(outcome)
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.0.lock().unwrap().retain(|_, writer| *writer != lock_id);
        call.memory.abandon(lock_id, key).await
    }
}

/// Stores no announcement.
#[derive(Default)]
pub(crate) struct IgnoresAnnouncements;

impl Flaw for IgnoresAnnouncements {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        call.memory.acquire(&request.clone().with_announcement(None)).await
    }
}

/// Refuses readers that hold an announced key when they repeat their request.
#[derive(Default)]
pub(crate) struct AnnouncementsRefusePresentReaders(Announced);

impl Flaw for AnnouncementsRefusePresentReaders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if request.mode.is_shared() && self.0.by(&request.key).is_some() {
            return Ok(REFUSED);
        }
        self.0.acquire(call, request).await
    }
}

/// Extends no reader of an announced key.
#[derive(Default)]
pub(crate) struct AnnouncementsRefuseExtends(Announced);

impl Flaw for AnnouncementsRefuseExtends {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        self.0.acquire(call, request).await
    }

    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = call.memory.lookup(&lock.lock_id.into()).await?;
        if found.is_some_and(|record| self.0.by(&record.key).is_some()) {
            return Ok(ExtendOutcome::NotHeld(NotHeld::Unknown));
        }
        call.memory.extend(lock, ttl).await
    }
}

/// Announces for ever.
#[derive(Default)]
pub(crate) struct AnnouncementsNeverEnd;

impl Flaw for AnnouncementsNeverEnd {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let announce = request.announce.map(|_| Ttl::MAX.as_duration());
        call.memory.acquire(&request.clone().with_announcement(announce)).await
    }
}

/// Leaves the announcement of an id that is abandoned.
#[derive(Default)]
pub(crate) struct AbandonLeavesTheAnnouncement;

impl Flaw for AbandonLeavesTheAnnouncement {
    async fn abandon(&self, call: &Call, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        call.memory.abandon(lock_id, &LockKey::new("elsewhere")?).await
    }
}

/// Removes the announcement of a key whichever id is abandoned.
#[derive(Default)]
pub(crate) struct AnyAbandonRemovesTheAnnouncement(Announced);

impl Flaw for AnyAbandonRemovesTheAnnouncement {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        self.0.acquire(call, request).await
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        if let Some(writer) = self.0.by(key) {
            call.memory.abandon(writer, key).await?;
        }
        call.memory.abandon(lock_id, key).await
    }
}

/// Removes the announcement with the last reader.
#[derive(Default)]
pub(crate) struct TheLastReaderTakesTheAnnouncement;

impl Flaw for TheLastReaderTakesTheAnnouncement {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let found = call.memory.lookup(&lock.lock_id.into()).await?;
        let outcome = call.memory.release(lock).await?;
        if let Some(record) = found
            && held(call, &record.key).await?.is_none()
        {
            call.memory.force_release(&record.key).await?;
        }
        Ok(outcome)
    }
}

/// Removes the announcement when the readers have expired.
#[derive(Default)]
pub(crate) struct AnnouncementsExpireWithTheReaders;

impl Flaw for AnnouncementsExpireWithTheReaders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if held(call, &request.key).await?.is_none() {
            call.memory.force_release(&request.key).await?;
        }
        call.memory.acquire(request).await
    }
}

/// Keeps the key for the writer that has announced itself.
#[derive(Default)]
pub(crate) struct AnnouncementsKeepWritersOut(Announced);

impl Flaw for AnnouncementsKeepWritersOut {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if self.0.by(&request.key).is_some_and(|writer| writer != request.lock_id) {
            return Ok(REFUSED);
        }
        self.0.acquire(call, request).await
    }
}

/// Keeps an announcement until it is abandoned, also after an exclusive grant.
#[derive(Default)]
pub(crate) struct GrantsLeaveTheAnnouncement(Announced);

impl Flaw for GrantsLeaveTheAnnouncement {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if request.mode.is_shared() && self.0.by(&request.key).is_some() {
            return Ok(REFUSED);
        }
        self.0.acquire(call, request).await
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.0.abandon(call, lock_id, key).await
    }
}

/// Announces every writer that is refused.
#[derive(Default)]
pub(crate) struct AnnouncesEveryWriter;

impl Flaw for AnnouncesEveryWriter {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let announce = request.announce.or(Some(Duration::from_secs(60)));
        call.memory.acquire(&request.clone().with_announcement(announce)).await
    }
}

/// Keeps the first announcement, although another one ends later.
#[derive(Default)]
pub(crate) struct TheFirstAnnouncementStays(Announced);

impl Flaw for TheFirstAnnouncementStays {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        match self.0.by(&request.key) {
            Some(_) => call.memory.acquire(&request.clone().with_announcement(None)).await,
            None => self.0.acquire(call, request).await,
        }
    }
}

/// Replaces an announcement by one that ends earlier.
#[derive(Default)]
pub(crate) struct TheLastAnnouncementReplacesAll(Announced);

impl Flaw for TheLastAnnouncementReplacesAll {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let replaced = self.0.by(&request.key).filter(|writer| *writer != request.lock_id);
        if let (Some(writer), Some(_)) = (replaced, request.announce) {
            call.memory.abandon(writer, &request.key).await?;
        }
        self.0.acquire(call, request).await
    }
}

/// Does not prolong the announcement of a writer that tries again.
#[derive(Default)]
pub(crate) struct WritersAnnounceThemselvesOnce(Announced);

impl Flaw for WritersAnnounceThemselvesOnce {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if self.0.by(&request.key) == Some(request.lock_id) {
            return call.memory.acquire(&request.clone().with_announcement(None)).await;
        }
        self.0.acquire(call, request).await
    }
}

/// Refuses readers of a key for which `announces` holds of a request that was refused.
async fn announce_if(
    announced: &Announced,
    call: &Call,
    request: &AcquireRequest,
    announces: impl FnOnce(&LockRecord) -> bool,
) -> Acquired {
    let record = held(call, &request.key).await?;
    if record.is_none() && request.mode.is_shared() && announced.by(&request.key).is_some() {
        return Ok(REFUSED);
    }
    let outcome = call.memory.acquire(request).await?;
    if record.as_ref().is_some_and(announces) {
        announced.note(request, &outcome);
    }
    Ok(outcome)
}

/// Stores the announcement of a writer that is refused because of another writer.
#[derive(Default)]
pub(crate) struct AnnouncesBehindAWriter(Announced);

impl Flaw for AnnouncesBehindAWriter {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        announce_if(&self.0, call, request, |held| !held.mode.is_shared()).await
    }
}

/// Stores the announcement of a request in shared mode.
#[derive(Default)]
pub(crate) struct AnnouncesSharedRequests(Announced);

impl Flaw for AnnouncesSharedRequests {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        announce_if(&self.0, call, request, |_| request.mode.is_shared()).await
    }
}

/// Shows the record of an announced key although the readers have left.
#[derive(Default)]
pub(crate) struct ShowsAnnouncedKeys {
    announced: Announced,
    records: Mutex<HashMap<LockKey, LockRecord>>,
}

impl Flaw for ShowsAnnouncedKeys {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = self.announced.acquire(call, request).await;
        if let Some(record) = held(call, &request.key).await? {
            self.records.lock().unwrap().insert(record.key.clone(), record);
        }
        outcome
    }

    async fn lookup(&self, call: &Call, query: &LockQuery) -> Found {
        let found = call.memory.lookup(query).await?;
        let LockQuery::ByKey(key) = query else { return Ok(found) };
        let last = self.announced.by(key).and(self.records.lock().unwrap().get(key).cloned());
        Ok(found.or(last))
    }
}

/// Reports the expiry of the readers to a reader that an announcement keeps out.
#[derive(Default)]
pub(crate) struct ReportsNoEndOfAnAnnouncement;

impl Flaw for ReportsNoEndOfAnAnnouncement {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let mut outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Contended { holder: Some(holder) } = &mut outcome {
            let grace = call.memory.capabilities().grace;
            holder.free_in = holder.remaining.map(|remaining| remaining + grace);
        }
        Ok(outcome)
    }
}

/// Announces a writer in a step after the one that refuses it.
#[derive(Default)]
pub(crate) struct AnnouncesInASecondStep;

impl Flaw for AnnouncesInASecondStep {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(&request.clone().with_announcement(None)).await?;
        if request.announce.is_some() && matches!(outcome, AcquireOutcome::Contended { .. }) {
            tokio::task::yield_now().await;
            if held(call, &request.key).await?.is_some() {
                return call.memory.acquire(request).await;
            }
        }
        Ok(outcome)
    }
}

/// Drops announcements that end after the last time that its clock can represent.
#[derive(Default)]
pub(crate) struct LongAnnouncementsOverflow;

impl Flaw for LongAnnouncementsOverflow {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let most = Duration::from_millis(u32::MAX.into());
        let announce = request.announce.filter(|announce| *announce < most);
        call.memory.acquire(&request.clone().with_announcement(announce)).await
    }
}
