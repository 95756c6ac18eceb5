use std::time::Duration;

use crate::{
    DisplayHash, Fence, Holder, LockId, LockKey, Owner, Timestamp,
    backend::{Grant, Mode},
};

/// A lock as the store keeps it, secrets included: anyone who has the id can release the lock.
///
/// In shared mode the record is the *head* of the key, which stands for all holders: it shows a
/// client that knows only exclusive locks that the key is held. Its id belongs to no holder, its
/// expiry is the latest of the holders', its fence the highest, and [`holders`](Self::holders)
/// contains the grants themselves.
///
/// Backends return this form; the form for display is [`LockInfo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRecord {
    /// The key that is locked.
    pub key: LockKey,
    /// The id that holds the lock; in shared mode, an id that holds nothing.
    pub lock_id: LockId,
    /// The mode in which the key is held.
    pub mode: Mode,
    /// The fence of the grant; in shared mode the highest.
    pub fence: Fence,
    /// The holder's label; `None` in shared mode.
    pub owner: Option<Owner>,
    /// When the grant was made, on the store's clock; in shared mode the first that is still held.
    pub acquired_at: Timestamp,
    /// When the grant ends unless it is extended, on the store's clock; in shared mode the last.
    pub expires_at: Timestamp,
    /// When the record was read, on the store's clock.
    pub observed_at: Timestamp,
    /// The live holders in shared mode, in the order of their fences; empty in exclusive mode.
    pub holders: Vec<SharedHolder>,
}

/// A grant in shared mode. Its id, like any other, can release it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedHolder {
    /// The id of the grant.
    pub lock_id: LockId,
    /// The fence of the grant.
    pub fence: Fence,
    /// The holder's label.
    pub owner: Option<Owner>,
    /// When the grant was made, on the store's clock.
    pub acquired_at: Timestamp,
    /// When the grant ends unless it is extended, on the store's clock.
    pub expires_at: Timestamp,
}

impl LockRecord {
    /// Returns how long the grant had left when it was read, zero once it is in its grace.
    pub fn remaining(&self) -> Duration {
        self.expires_at.since(self.observed_at)
    }

    /// Describes the holder as a contender for an exclusive grant would have seen it when the record
    /// was read, in a store with this grace.
    pub fn holder(&self, grace: Duration) -> Holder {
        let grant = Grant { fence: self.fence, expires_at: self.expires_at };
        let holder = Holder::new(grant, self.owner.clone(), self.observed_at, grace);
        let count = self.mode.is_shared().then_some(self.holders.len());
        Holder { mode: self.mode, count, ..holder }
    }
}

/// A lock as lookups show it, with hashes in place of the key and the id. [`DisplayHash`] documents
/// how much they hide.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LockInfo {
    /// The hash of the key.
    pub key: DisplayHash,
    /// The hash of the lock id; in shared mode, of an id that holds nothing.
    pub lock_id: DisplayHash,
    /// The mode in which the key is held.
    pub mode: Mode,
    /// The fence of the grant; in shared mode the highest.
    pub fence: Fence,
    /// The holder's label; `None` in shared mode.
    pub owner: Option<Owner>,
    /// When the grant was made, in Unix milliseconds on the store's clock; in shared mode the first
    /// that is still held.
    pub acquired_at: Timestamp,
    /// When the grant ends unless it is extended, in Unix milliseconds on the store's clock; in
    /// shared mode the last.
    pub expires_at: Timestamp,
    /// How long the grant had left when it was looked up, zero once it is in its grace.
    pub remaining: Duration,
    /// The holders in shared mode, in the order of their fences; empty in exclusive mode.
    pub holders: Vec<HolderInfo>,
}

/// A grant in shared mode as lookups show it, with a hash in place of the id.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct HolderInfo {
    /// The hash of the lock id.
    pub lock_id: DisplayHash,
    /// The fence of the grant.
    pub fence: Fence,
    /// The holder's label.
    pub owner: Option<Owner>,
    /// When the grant was made, in Unix milliseconds on the store's clock.
    pub acquired_at: Timestamp,
    /// When the grant ends unless it is extended, in Unix milliseconds on the store's clock.
    pub expires_at: Timestamp,
    /// How long the grant had left when it was looked up, zero once it is in its grace.
    pub remaining: Duration,
}

impl From<&LockRecord> for LockInfo {
    fn from(record: &LockRecord) -> Self {
        Self {
            key: record.key.display_hash(),
            lock_id: record.lock_id.display_hash(),
            mode: record.mode,
            fence: record.fence,
            owner: record.owner.clone(),
            acquired_at: record.acquired_at,
            expires_at: record.expires_at,
            remaining: record.remaining(),
            holders: record.holders.iter().map(|holder| info(holder, record)).collect(),
        }
    }
}

fn info(holder: &SharedHolder, record: &LockRecord) -> HolderInfo {
    HolderInfo {
        lock_id: holder.lock_id.display_hash(),
        fence: holder.fence,
        owner: holder.owner.clone(),
        acquired_at: holder.acquired_at,
        expires_at: holder.expires_at,
        remaining: holder.expires_at.since(record.observed_at),
    }
}

/// A page of the held locks, and where the next page begins.
#[derive(Clone, Debug, Default)]
pub struct LockPage {
    /// The locks, in an order of the backend's choice.
    pub locks: Vec<LockRecord>,
    /// Where to continue, `None` at the end.
    pub next: Option<PageToken>,
}

/// Identifies where a page ended; only the backend that created it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(String);

impl PageToken {
    /// Wraps the backend's own cursor.
    pub fn new(cursor: impl Into<String>) -> Self {
        Self(cursor.into())
    }

    /// Returns the backend's own cursor.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
