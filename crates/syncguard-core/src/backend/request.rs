use std::{fmt, num::NonZeroU32, time::Duration};

use unicode_normalization::UnicodeNormalization;

use crate::{LockId, LockKey, Owner, Ttl, backend::PageToken};

/// Requests one grant.
///
/// # Examples
///
/// ```
/// use syncguard_core::{LockId, LockKey, Owner, Ttl, backend::{AcquireRequest, Mode}};
///
/// let (key, lock_id) = (LockKey::new("payment:42")?, LockId::mint()?);
/// let request = AcquireRequest::new(key, lock_id, Ttl::default())
///     .with_owner(Some(Owner::new("ci-7")?));
/// assert_eq!(request.mode, Mode::Exclusive);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcquireRequest {
    /// The key to lock.
    pub key: LockKey,
    /// The id under which the grant is made. A repeated request with the id that holds the lock
    /// returns the stored grant.
    pub lock_id: LockId,
    /// How long the grant lasts from the moment it is made.
    pub ttl: Ttl,
    /// Whether others may hold the key at the same time.
    pub mode: Mode,
    /// The label of the caller, for people to read.
    pub owner: Option<Owner>,
    /// For how long a request in exclusive mode that is refused because of shared holders keeps
    /// new shared holders out, so that the key becomes free for its caller. `None` if the caller
    /// does not go on waiting.
    pub announce: Option<Duration>,
}

impl AcquireRequest {
    /// Requests an exclusive grant without an owner label.
    pub fn new(key: LockKey, lock_id: LockId, ttl: Ttl) -> Self {
        Self { key, lock_id, ttl, mode: Mode::Exclusive, owner: None, announce: None }
    }

    /// Sets the label of the caller.
    #[must_use]
    pub fn with_owner(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }

    /// Sets whether others may hold the key at the same time.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Sets for how long the request keeps new shared holders out if it is refused.
    #[must_use]
    pub fn with_announcement(self, announce: Option<Duration>) -> Self {
        Self { announce, ..self }
    }
}

/// Selects whether others may hold a key at the same time.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroU32;
/// use syncguard_core::backend::Mode;
///
/// assert_eq!(Mode::default(), Mode::Exclusive);
/// assert_eq!(Mode::SHARED.permits(), None);
/// let semaphore = Mode::Shared { permits: NonZeroU32::new(4) };
/// assert_eq!(semaphore.permits(), NonZeroU32::new(4));
/// assert_eq!(semaphore.to_string(), "shared mode with 4 permits");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No one else holds the key.
    #[default]
    Exclusive,
    /// Others may hold the key in the same mode, with the same number of permits. A backend whose
    /// [`Capabilities`](crate::backend::Capabilities) do not include `shared` returns
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    Shared {
        /// How many may hold the key at once, as with a semaphore; `None` for any number, as with
        /// the readers of a read-write lock.
        permits: Option<NonZeroU32>,
    },
}

impl Mode {
    /// Any number of holders at once, as with the readers of a read-write lock.
    pub const SHARED: Self = Self::Shared { permits: None };

    /// Returns whether others may hold the key at the same time.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Shared { .. })
    }

    /// Returns how many may hold the key at once, if the mode limits that by a number of permits.
    pub const fn permits(self) -> Option<NonZeroU32> {
        match self {
            Self::Exclusive => None,
            Self::Shared { permits } => permits,
        }
    }

    /// Returns its name in logs and metrics. The name is stable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared { .. } => "shared",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.permits() {
            None => write!(f, "{} mode", self.as_str()),
            Some(permits) => write!(f, "{} mode with {permits} permits", self.as_str()),
        }
    }
}

/// Refers to a grant by its id, and by its key if the key is known.
#[derive(Clone, Debug)]
pub struct LockRef {
    /// The id of the grant. It alone decides.
    pub lock_id: LockId,
    /// A hint that may save a round trip. If it does not match the id, the id takes precedence.
    pub key: Option<LockKey>,
    /// How long the holder can still rely on the grant. A hint: if extends queue, those with less
    /// time left go first. A reference without it counts as having no time left.
    pub time_left: Option<Duration>,
}

impl LockRef {
    /// Refers to a grant whose key is known.
    pub fn new(lock_id: LockId, key: LockKey) -> Self {
        Self { key: Some(key), ..Self::from(lock_id) }
    }

    /// Sets how long the holder can still rely on the grant.
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

/// Selects a lock to look up.
#[derive(Clone, Debug)]
pub enum LockQuery {
    /// The lock on this key.
    ByKey(LockKey),
    /// The lock that this id holds.
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

/// Requests one page of the held locks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListRequest {
    /// The text with which the keys begin, in normal form; empty for all keys.
    pub prefix: String,
    /// Where the previous page ended; `None` for the first page.
    pub after: Option<PageToken>,
    /// How many locks to return at most, at least one. A page may hold fewer, even none, and still
    /// be followed by another one.
    pub limit: usize,
}

impl ListRequest {
    /// Requests the first hundred locks whose keys begin with `prefix`, which is brought into the
    /// normal form of keys.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::backend::ListRequest;
    ///
    /// let request = ListRequest::new("cafe\u{301}:");
    /// assert_eq!(request.prefix, "caf\u{e9}:");
    /// assert_eq!(request.limit, 100);
    /// ```
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.nfc().collect(), after: None, limit: 100 }
    }

    /// Continues where the previous page ended.
    #[must_use]
    pub fn after(self, token: PageToken) -> Self {
        Self { after: Some(token), ..self }
    }

    /// Sets how many locks to return at most; zero counts as one.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: limit.max(1), ..self }
    }
}
