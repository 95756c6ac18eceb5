//! The contents of the documents.

use std::{collections::BTreeMap, str::FromStr};

use syncguard_core::{
    Fence, Holder, LockId, LockKey, Owner, Timestamp, Ttl,
    backend::{AcquireRequest, Capabilities, Grant, LockRecord, Mode},
};

use crate::{
    client::{Document, Fields, Value, Version, integer, integer_of, map, text},
    error::Failure,
    sharing::Sharing,
};

/// How long a tombstone is kept, in milliseconds: one hour. No request lives that long.
const TOMBSTONE_TTL_MS: i64 = 60 * 60 * 1_000;

/// The maximum number of tombstones in a counter. The most recent ones are kept. Each takes some
/// 40 bytes, and every acquire of the key reads them.
const MAX_TOMBSTONES: usize = 256;

/// The field by which the lock of a claim without a counter is found once it has expired: the expiry
/// with which it was granted. Every other grant replaces the document, and has no such field.
pub(crate) const CLAIMED_UNTIL: &str = "claimedUntilMs";

/// The document of a lock, whichever client wrote it. In shared mode, its own fields are those of
/// the head.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    lock_id: LockId,
    expires_at: Timestamp,
    acquired_at: Timestamp,
    key: LockKey,
    fence: Fence,
    owner: Option<Owner>,
    sharing: Option<Box<Sharing>>,
    pub(crate) version: Version,
}

/// The document of a fence counter.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    /// The fence of the last grant, unless the document is not a counter.
    fence: Option<Fence>,
    /// The tombstones of abandoned ids, unless they cannot be read.
    tombstones: Option<Tombstones>,
    pub(crate) version: Version,
}

/// The abandoned ids, and when they were abandoned, in Unix milliseconds of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tombstones(BTreeMap<String, i64>);

impl Stored {
    pub(crate) fn parse(document: &Document) -> Result<Self, Failure> {
        let (lock_id, key) = (parsed(document, "lockId")?, parsed(document, "key")?);
        let fence = parsed(document, "fence")?;
        Ok(Self {
            sharing: Sharing::parse(document, (lock_id, &key, fence))?.map(Box::new),
            lock_id,
            expires_at: time(document, "expiresAtMs")?,
            acquired_at: time(document, "acquiredAtMs")?,
            key,
            fence,
            // TypeScript's grant replaces the document and its extend keeps the field, so a label
            // is always that of the holder. No guarantee depends on it.
            owner: parsed(document, "owner").ok(),
            version: document.version,
        })
    }

    /// Returns whether it contains a grant of this id, live or not.
    pub(crate) fn is_of(&self, id: LockId) -> bool {
        self.expiry_of(id).is_some()
    }

    /// Returns the expiry of the grant of this id. The id of a head has none.
    pub(crate) fn expiry_of(&self, id: LockId) -> Option<Timestamp> {
        match &self.sharing {
            None => (self.lock_id == id).then_some(self.expires_at),
            Some(sharing) => Some(sharing.holder(id)?.expires_at),
        }
    }

    /// Returns the holders, if the key is shared.
    pub(crate) fn sharing(&self) -> Option<&Sharing> {
        self.sharing.as_deref()
    }

    /// Returns whether an exclusive grant is live. In shared mode, that depends on the holders.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        is_live(self.expires_at, now)
    }

    /// Returns when the last grant expires.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Returns when the grant was made: the time from which its first expiry was counted.
    pub(crate) fn acquired_at(&self) -> Timestamp {
        self.acquired_at
    }

    /// Returns whether the expiry is the original one of a grant for this ttl.
    pub(crate) fn is_unextended(&self, ttl: Ttl) -> bool {
        self.expires_at == self.acquired_at.after(ttl)
    }

    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant { fence: self.fence, expires_at: self.expires_at }
    }

    pub(crate) fn holder(&self, now: Timestamp) -> Holder {
        Holder::new(self.grant(), self.owner.clone(), now, Capabilities::GRACE)
    }

    /// Returns the record, if the lock is live.
    pub(crate) fn into_live_record(self, observed_at: Timestamp) -> Option<LockRecord> {
        if let Some(sharing) = self.sharing {
            return sharing.record(observed_at);
        }
        self.is_live(observed_at).then_some(LockRecord {
            mode: Mode::Exclusive,
            holders: Vec::new(),
            key: self.key,
            lock_id: self.lock_id,
            fence: self.fence,
            owner: self.owner,
            acquired_at: self.acquired_at,
            expires_at: self.expires_at,
            observed_at,
        })
    }
}

fn parsed<T: FromStr>(document: &Document, field: &'static str) -> Result<T, Failure> {
    let text = document.text(field).and_then(|text| text.parse().ok());
    text.ok_or(Failure::Unreadable(field))
}

fn time(document: &Document, field: &'static str) -> Result<Timestamp, Failure> {
    let millis = document.integer(field).ok_or(Failure::Unreadable(field))?;
    Ok(Timestamp::from_unix_millis(millis))
}

/// Returns whether a grant is live, by the rule that every SyncGuard applies.
pub(crate) fn is_live(expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at.is_live(now, Capabilities::GRACE)
}

impl Counter {
    pub(crate) fn parse(document: &Document) -> Self {
        Self {
            fence: parsed(document, "fence").ok(),
            tombstones: Tombstones::parse(document),
            version: document.version,
        }
    }

    pub(crate) fn fence(&self) -> Result<Fence, Failure> {
        self.fence.ok_or(Failure::Unreadable("fence counter"))
    }

    /// Returns the tombstones. A list that cannot be read is not taken as empty: an abandoned id
    /// could be in it.
    pub(crate) fn tombstones(self) -> Result<Tombstones, Failure> {
        self.tombstones.ok_or(Failure::Unreadable("list of abandoned ids"))
    }

    /// Returns whether it keeps ids from being granted at `now`, or cannot be read.
    pub(crate) fn has_tombstones(&self, now: Timestamp) -> bool {
        let tombstones = self.tombstones.as_ref();
        tombstones.is_none_or(|tombstones| tombstones.0.values().any(|at| is_kept(*at, now)))
    }

    pub(crate) fn has_abandoned(&self, id: LockId) -> bool {
        self.tombstones.as_ref().is_some_and(|tombstones| tombstones.has(id))
    }
}

/// Returns whether the tombstone of an id that was abandoned at this time still counts.
fn is_kept(abandoned_at: i64, now: Timestamp) -> bool {
    abandoned_at.saturating_add(TOMBSTONE_TTL_MS) > now.unix_millis()
}

impl Tombstones {
    fn parse(document: &Document) -> Option<Self> {
        let Some(tombstones) = document.map("abandoned") else {
            return (!document.has("abandoned")).then(Self::default);
        };
        let tombstone = |(id, at): (&String, _)| Some((id.clone(), integer_of(at)?));
        tombstones.iter().map(tombstone).collect::<Option<_>>().map(Self)
    }

    fn has(&self, id: LockId) -> bool {
        self.0.contains_key(id.as_str())
    }

    /// Adds an id, and drops the ids that are older than one hour or exceed the limit.
    ///
    /// If the id is present already, its time moves on even within a millisecond: a write that
    /// changes nothing would leave the version of the document as it is, and with it the conditions
    /// that rest on that.
    pub(crate) fn add(&mut self, id: LockId, now: Timestamp) {
        let before = self.0.get(id.as_str()).copied().unwrap_or(i64::MIN);
        let at = now.unix_millis().max(before.saturating_add(1));
        self.0.insert(id.as_str().to_owned(), at);
        self.prune(now);
        while self.0.len() > MAX_TOMBSTONES {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone());
            self.0.remove(&oldest.unwrap_or_default());
        }
    }

    /// Drops the ids that are older than one hour.
    pub(crate) fn prune(&mut self, now: Timestamp) {
        self.0.retain(|_, at| is_kept(*at, now));
    }

    fn into_value(self) -> Value {
        map(self.0.into_iter().map(|(id, at)| (id, integer(at))))
    }
}

/// Returns the fields of a lock that is granted now.
pub(crate) fn lock_fields(request: &AcquireRequest, grant: Grant, now: Timestamp) -> Fields {
    let mut fields: Fields = [
        ("lockId", text(request.lock_id.as_str())),
        ("expiresAtMs", integer(grant.expires_at.unix_millis())),
        ("acquiredAtMs", integer(now.unix_millis())),
        ("key", text(request.key.as_str())),
        ("fence", text(&grant.fence.to_string())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(owner) = &request.owner {
        fields.insert("owner".to_owned(), text(owner.as_str()));
    }
    if grant.fence == Fence::ZERO {
        fields.insert(CLAIMED_UNTIL.to_owned(), integer(grant.expires_at.unix_millis()));
    }
    fields
}

/// Returns the fields of a lock that an extend changes.
pub(crate) fn expiry_fields(expires_at: Timestamp) -> Fields {
    [("expiresAtMs".to_owned(), integer(expires_at.unix_millis()))].into()
}

/// Returns the fields of a fence counter.
pub(crate) fn counter_fields(key: &LockKey, fence: Fence, tombstones: Tombstones) -> Fields {
    let mut fields: Fields = [
        ("fence".to_owned(), text(&fence.to_string())),
        ("keyDebug".to_owned(), text(key.as_str())),
    ]
    .into();
    fields.extend(tombstone_fields(tombstones));
    fields
}

/// Returns the fields of a fence counter that an abandon changes.
pub(crate) fn tombstone_fields(tombstones: Tombstones) -> Fields {
    let tombstones =
        (!tombstones.0.is_empty()).then(|| ("abandoned".to_owned(), tombstones.into_value()));
    tombstones.into_iter().collect()
}

/// Builds a record from a document, if that is a live lock.
pub(crate) fn live(now: Timestamp, document: &Document) -> Result<Option<LockRecord>, Failure> {
    Ok(Stored::parse(document)?.into_live_record(now))
}

#[cfg(test)]
mod tests {
    use syncguard_core::{LockId, Timestamp};

    use super::{MAX_TOMBSTONES, TOMBSTONE_TTL_MS, Tombstones};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn id() -> LockId {
        LockId::mint().unwrap()
    }

    #[test]
    fn adding_a_tombstone_again_changes_its_time_even_within_a_millisecond() {
        let (mut tombstones, id) = (Tombstones::default(), id());
        tombstones.add(id, at(7));
        let before = tombstones.clone();
        tombstones.add(id, at(7));
        assert_ne!(tombstones, before);
        assert!(tombstones.has(id));
    }

    #[test]
    fn tombstones_are_kept_for_one_hour() {
        let (mut tombstones, old, young) = (Tombstones::default(), id(), id());
        tombstones.add(old, at(0));
        tombstones.add(young, at(TOMBSTONE_TTL_MS - 1));
        assert!(tombstones.has(old));
        tombstones.prune(at(TOMBSTONE_TTL_MS));
        assert!(!tombstones.has(old) && tombstones.has(young));
    }

    #[test]
    fn the_most_recent_tombstones_are_kept_up_to_the_limit() {
        let mut tombstones = Tombstones::default();
        let ids: Vec<_> = (0..MAX_TOMBSTONES + 2).map(|_| id()).collect();
        for (now, id) in (0..).zip(&ids) {
            tombstones.add(*id, at(now));
        }
        assert_eq!(tombstones.0.len(), MAX_TOMBSTONES);
        assert!(
            !tombstones.has(ids[1])
                && tombstones.has(ids[2])
                && tombstones.has(ids[MAX_TOMBSTONES + 1])
        );
    }
}
