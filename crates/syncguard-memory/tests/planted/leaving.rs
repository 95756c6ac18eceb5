//! Flaws in how shared holders are extended, leave and expire.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use syncguard_core::{
    Error, LockId, LockKey, ReleaseOutcome, Timestamp, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, Grant, LockBackend, LockRecord, LockRef,
        NotHeld, SharedHolder,
    },
};

use crate::{
    sharing::{REFUSED, held},
    store::{Acquired, Call, Extended, Flaw, Found, Released},
};

/// Returns the record of the key that an id holds.
async fn held_by(call: &Call, lock_id: LockId) -> Found {
    call.memory.lookup(&lock_id.into()).await
}

/// Returns the holders of a record other than `lock_id`.
fn others(record: &LockRecord, lock_id: LockId) -> impl Iterator<Item = &SharedHolder> {
    record.holders.iter().filter(move |holder| holder.lock_id != lock_id)
}

/// Ends all shared grants of a key with the first of them.
#[derive(Default)]
pub(crate) struct ReleaseEndsAllReaders;

impl Flaw for ReleaseEndsAllReaders {
    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let found = held_by(call, lock.lock_id).await?;
        let outcome = call.memory.release(lock).await?;
        if let Some(record) = found {
            call.memory.force_release(&record.key).await?;
        }
        Ok(outcome)
    }
}

/// Extends all readers of a key with one of them.
#[derive(Default)]
pub(crate) struct ExtendMovesAllReaders;

impl Flaw for ExtendMovesAllReaders {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = held_by(call, lock.lock_id).await?;
        for other in found.iter().flat_map(|record| others(record, lock.lock_id)) {
            let _ = call.memory.extend(&other.lock_id.into(), ttl).await?;
        }
        call.memory.extend(lock, ttl).await
    }
}

/// Reads all readers, extends one, and writes all back in a step of its own.
#[derive(Default)]
pub(crate) struct ExtendWritesAllReadersBack;

impl Flaw for ExtendWritesAllReadersBack {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = held_by(call, lock.lock_id).await?;
        tokio::task::yield_now().await;
        if let Some(record) = &found {
            for other in others(record, lock.lock_id) {
                let left = Ttl::new(other.expires_at.since(record.observed_at))?;
                let _ = call.memory.extend(&other.lock_id.into(), left).await?;
            }
        }
        call.memory.extend(lock, ttl).await
    }
}

/// Keeps the key for its grace when the last reader is abandoned.
#[derive(Default)]
pub(crate) struct TheLastReaderLeavesItsGrace;

impl Flaw for TheLastReaderLeavesItsGrace {
    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let found = held_by(call, lock_id).await?;
        if found.is_some_and(|record| record.holders.len() == 1) {
            let last = Ttl::new(Duration::from_millis(1))?;
            return call.memory.extend(&lock_id.into(), last).await.map(drop);
        }
        call.memory.abandon(lock_id, key).await
    }
}

/// Grants a reader that repeats its request another time.
#[derive(Default)]
pub(crate) struct GrantsRepeatedReadersAnew;

impl Flaw for GrantsRepeatedReadersAnew {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if request.mode.is_shared() {
            let _ = call.memory.release(&request.lock_id.into()).await?;
        }
        call.memory.acquire(request).await
    }
}

/// Ends what an abandoned id holds, and misses its acquire that is in flight.
#[derive(Default)]
pub(crate) struct AbandonMissesAcquiresInFlight;

impl Flaw for AbandonMissesAcquiresInFlight {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        tokio::task::yield_now().await;
        call.memory.acquire(request).await
    }

    async fn abandon(&self, call: &Call, lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        call.memory.release(&lock_id.into()).await.map(drop)
    }
}

/// Finds a reader only by the key of the hint, if there is one.
#[derive(Default)]
pub(crate) struct TheHintOverridesTheReader;

impl Flaw for TheHintOverridesTheReader {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let found = held_by(call, lock.lock_id).await?;
        if found.map(|record| record.key) != lock.key && lock.key.is_some() {
            return Ok(ExtendOutcome::NotHeld(NotHeld::NotFound));
        }
        call.memory.extend(lock, ttl).await
    }
}

/// Returns the first grant of an id for ever.
#[derive(Default)]
pub(crate) struct RemembersExpiredGrants(Mutex<HashMap<LockId, Grant>>);

impl Flaw for RemembersExpiredGrants {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        let AcquireOutcome::Granted(grant) = outcome else { return Ok(outcome) };
        let first = *self.0.lock().unwrap().entry(request.lock_id).or_insert(grant);
        Ok(AcquireOutcome::Granted(first))
    }
}

/// Lets all readers of a key live as long as the one that lives longest.
#[derive(Default)]
pub(crate) struct ReadersLiveAsLongAsTheKey;

impl Flaw for ReadersLiveAsLongAsTheKey {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await?;
        if let Some(record) = held(call, &request.key).await? {
            for other in others(&record, request.lock_id) {
                let _ = call.memory.extend(&other.lock_id.into(), request.ttl).await?;
            }
        }
        Ok(outcome)
    }
}

/// Keeps a key from writers until each of its readers has been released.
#[derive(Default)]
pub(crate) struct ExpiredReadersKeepTheKey(Mutex<Vec<LockId>>);

impl Flaw for ExpiredReadersKeepTheKey {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if !request.mode.is_shared() && !self.0.lock().unwrap().is_empty() {
            return Ok(REFUSED);
        }
        if request.mode.is_shared() {
            self.0.lock().unwrap().push(request.lock_id);
        }
        call.memory.acquire(request).await
    }

    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        self.0.lock().unwrap().retain(|lock_id| *lock_id != lock.lock_id);
        call.memory.release(lock).await
    }
}

/// Refuses writers a key that was once shared.
#[derive(Default)]
pub(crate) struct WritersNeverFollowReaders(Mutex<Vec<LockKey>>);

impl Flaw for WritersNeverFollowReaders {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        if request.mode.is_shared() {
            self.0.lock().unwrap().push(request.key.clone());
        } else if self.0.lock().unwrap().contains(&request.key) {
            return Ok(REFUSED);
        }
        call.memory.acquire(request).await
    }
}

/// Keeps the key, when a reader leaves, until the time at which that reader would have expired.
#[derive(Default)]
pub(crate) struct ReadersLeaveTheirTimeToOthers;

impl Flaw for ReadersLeaveTheirTimeToOthers {
    async fn abandon(&self, call: &Call, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        if let Some(record) = held_by(call, lock_id).await? {
            let left = Ttl::new(record.remaining())?;
            for other in others(&record, lock_id) {
                let _ = call.memory.extend(&other.lock_id.into(), left).await?;
            }
        }
        call.memory.abandon(lock_id, key).await
    }
}

/// Extends by no more milliseconds than fit into 32 bits.
#[derive(Default)]
pub(crate) struct LongExtendsOverflow;

impl Flaw for LongExtendsOverflow {
    async fn extend(&self, call: &Call, lock: &LockRef, ttl: Ttl) -> Extended {
        let most = Duration::from_millis(u32::MAX.into());
        call.memory.extend(lock, Ttl::new(ttl.as_duration().min(most))?).await
    }
}

/// Frees a key when the reader that came first has expired.
#[derive(Default)]
pub(crate) struct TheFirstReaderEndsTheKey(Mutex<HashMap<LockKey, Timestamp>>);

impl Flaw for TheFirstReaderEndsTheKey {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let record = held(call, &request.key).await?;
        let first = self.0.lock().unwrap().get(&request.key).copied();
        if let (Some(record), Some(first)) = (record, first)
            && record.observed_at > first
        {
            call.memory.force_release(&request.key).await?;
        }
        let outcome = call.memory.acquire(request).await?;
        if let AcquireOutcome::Granted(grant) = &outcome {
            self.0.lock().unwrap().entry(request.key.clone()).or_insert(grant.expires_at);
        }
        Ok(outcome)
    }
}

/// Lets the id of the record of a shared key release all its holders.
#[derive(Default)]
pub(crate) struct TheIdOfTheRecordReleases(Mutex<HashMap<LockId, LockKey>>);

impl Flaw for TheIdOfTheRecordReleases {
    async fn acquire(&self, call: &Call, request: &AcquireRequest) -> Acquired {
        let outcome = call.memory.acquire(request).await;
        if let Some(record) = held(call, &request.key).await? {
            self.0.lock().unwrap().insert(record.lock_id, record.key);
        }
        outcome
    }

    async fn release(&self, call: &Call, lock: &LockRef) -> Released {
        let key = self.0.lock().unwrap().get(&lock.lock_id).cloned();
        match key {
            Some(key) if call.memory.force_release(&key).await?.is_some() => {
                Ok(ReleaseOutcome::Released)
            }
            _ => call.memory.release(lock).await,
        }
    }
}
