use std::time::Duration;

use unicode_normalization::UnicodeNormalization;

use crate::{LockId, LockKey, Owner, PageToken, Ttl};

/// Asks for one grant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcquireRequest {
    /// What to lock.
    pub key: LockKey,
    /// The id under which the grant is made. Asking again with the id that holds the lock gives
    /// the stored grant.
    pub lock_id: LockId,
    /// How long the grant lasts from the moment it is made.
    pub ttl: Ttl,
    /// Whether others may hold the key at the same time.
    pub mode: Mode,
    /// Who is asking, for people to read.
    pub owner: Option<Owner>,
}

impl AcquireRequest {
    /// Asks for an exclusive grant without an owner label.
    pub fn new(key: LockKey, lock_id: LockId, ttl: Ttl) -> Self {
        Self { key, lock_id, ttl, mode: Mode::Exclusive, owner: None }
    }

    /// Names the holder-to-be.
    #[must_use]
    pub fn with_owner(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }

    /// Says whether others may hold the key at the same time.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }
}

/// Says whether others may hold a key at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nobody else holds the key.
    #[default]
    Exclusive,
    /// Others may hold the key in this mode too. A backend whose
    /// [`Capabilities`](crate::Capabilities) have no `shared` answers
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    Shared,
}

impl Mode {
    /// Returns its name in logs and metrics, which stays as it is.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }
}

/// Points at a grant: by its id, and by its key where that is known.
#[derive(Clone, Debug)]
pub struct LockRef {
    /// The id of the grant. It alone decides.
    pub lock_id: LockId,
    /// A hint that may save a round trip. Where it does not fit the id, the id wins.
    pub key: Option<LockKey>,
    /// How long the holder can still rely on the grant. A hint: where extends queue, those whose time
    /// is shorter go first. One without it counts as having none left.
    pub time_left: Option<Duration>,
}

impl LockRef {
    /// Points at a grant whose key is known.
    pub fn new(lock_id: LockId, key: LockKey) -> Self {
        Self { key: Some(key), ..Self::from(lock_id) }
    }

    /// Says how long the holder can still rely on the grant.
    #[must_use]
    pub fn with_time_left(self, time_left: Duration) -> Self {
        Self { time_left: Some(time_left), ..self }
    }
}

impl From<LockId> for LockRef {
    fn from(lock_id: LockId) -> Self {
        Self { lock_id, key: None, time_left: None }
    }
}

/// Asks what the store knows of one lock.
#[derive(Clone, Debug)]
pub enum LockQuery {
    /// Who holds this key?
    ByKey(LockKey),
    /// What does this id hold?
    ById(LockId),
}

impl From<LockKey> for LockQuery {
    fn from(key: LockKey) -> Self {
        Self::ByKey(key)
    }
}

impl From<LockId> for LockQuery {
    fn from(lock_id: LockId) -> Self {
        Self::ById(lock_id)
    }
}

/// Asks for one page of the locks that are held.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListRequest {
    /// Only keys that begin with this text, in normal form; empty for all.
    pub prefix: String,
    /// Where the page before ended; `None` for the first page.
    pub after: Option<PageToken>,
    /// How many locks to give at the most, at least one. A page may hold fewer, even none, and
    /// still have another one behind it.
    pub limit: usize,
}

impl ListRequest {
    /// Asks for the first hundred locks whose keys begin with `prefix`, which is brought into the
    /// normal form of keys.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.nfc().collect(), after: None, limit: 100 }
    }

    /// Goes on where the page before ended.
    #[must_use]
    pub fn after(self, token: PageToken) -> Self {
        Self { after: Some(token), ..self }
    }

    /// Sets how many locks to give at the most; zero counts as one.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: limit.max(1), ..self }
    }
}
