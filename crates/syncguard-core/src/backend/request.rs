use std::time::Duration;

use unicode_normalization::UnicodeNormalization;

use crate::{
    Fence, LockId, LockKey, Owner, Ttl,
    backend::{Mode, PageToken},
};

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
    /// Whether the grant creates the fence counter of a key that has none.
    ///
    /// `false` is for keys of one use, whose caller needs no fence, so that nothing of them is left
    /// at the store. If the key has a counter, the grant advances it and has the next fence, as any
    /// grant. If it has none, an exclusive grant is made under [`Fence::ZERO`], and no counter is
    /// stored. It excludes others in the same way. A shared grant always creates the counter.
    ///
    /// A backend may ignore this. Then the counter of each key stays.
    pub creates_counter: bool,
}

impl AcquireRequest {
    /// Requests an exclusive grant without an owner label.
    pub fn new(key: LockKey, lock_id: LockId, ttl: Ttl) -> Self {
        let (mode, creates_counter) = (Mode::Exclusive, true);
        Self { key, lock_id, ttl, mode, owner: None, announce: None, creates_counter }
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

    /// Requests that the grant does not [create the fence counter](Self::creates_counter) of a key
    /// that has none.
    #[must_use]
    pub fn without_new_counter(self) -> Self {
        Self { creates_counter: false, ..self }
    }

    /// Returns whether a grant of a key whose counter was last at `counter` leaves the key without
    /// one.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Fence, LockId, LockKey, Ttl, backend::{AcquireRequest, Mode}};
    ///
    /// let request = AcquireRequest::new(LockKey::new("k")?, LockId::mint()?, Ttl::default());
    /// assert!(!request.is_uncounted(None));
    /// let claim = request.without_new_counter();
    /// assert!(claim.is_uncounted(None) && claim.is_uncounted(Some(Fence::ZERO)));
    /// assert!(!claim.is_uncounted(Some(Fence::new(7)?)));
    /// assert!(!claim.with_mode(Mode::SHARED).is_uncounted(None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_uncounted(&self, counter: Option<Fence>) -> bool {
        let is_new = counter.is_none_or(|counter| counter == Fence::ZERO);
        is_new && !self.creates_counter && !self.mode.is_shared()
    }
}

/// Refers to a grant by its id, and by its key if the key is known.
#[derive(Clone, Debug)]
pub struct LockRef {
    /// The id of the grant. It alone decides.
    pub lock_id: LockId,
    /// A hint that may save a round trip. If it does not match the id, the id takes precedence.
    pub key: Option<LockKey>,
    /// A hint that may save a round trip. If it does not match the id, the id takes precedence.
    pub mode: Option<Mode>,
    /// How long the holder can still rely on the grant. A hint: if extends queue, those with less
    /// time left go first. A reference without it counts as having no time left.
    pub time_left: Option<Duration>,
}

impl LockRef {
    /// Refers to a grant whose key is known.
    pub fn new(lock_id: LockId, key: LockKey) -> Self {
        Self { key: Some(key), ..Self::from(lock_id) }
    }

    /// Sets the mode of the grant.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// Sets how long the holder can still rely on the grant.
    #[must_use]
    pub fn with_time_left(self, time_left: Duration) -> Self {
        Self { time_left: Some(time_left), ..self }
    }
}

impl From<LockId> for LockRef {
    fn from(lock_id: LockId) -> Self {
        Self { lock_id, key: None, mode: None, time_left: None }
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
