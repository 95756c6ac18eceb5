//! The rules of shared mode, for backends that decide in Rust.

#[cfg(test)]
mod tests;

use std::{num::NonZeroU32, time::Duration};

use super::{Grant, Holder, LockRecord, Mode, SharedHolder};
use crate::{Error, ErrorKind, Fence, LockId, LockKey, Owner, Timestamp, Ttl};

/// The shared holders of one key and the announcement of a writer, with the rules that a backend
/// applies to them.
///
/// This is for backends that read the state of a key, decide, and write it back in one step that no
/// other client's step can divide. It holds no exclusive grant: a backend asks it only about a key
/// that no one holds exclusively.
///
/// # Rules
///
/// - A shared grant is admitted if no announcement stands, the live holders have the same number of
///   permits, and there is a permit left.
/// - An announcement keeps new shared holders out until it ends; it affects no grant that is made,
///   and no exclusive request. A later announcement replaces an earlier one.
/// - Holders expire one by one, each at its own expiry and the grace.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use syncguard_core::{
///     Fence, LockId, Timestamp, Ttl,
///     backend::{Admission, Mode, SharedHolder, SharedHolders},
/// };
///
/// let now = Timestamp::from_unix_millis(1_000);
/// let (reader, writer) = (LockId::mint()?, LockId::mint()?);
/// let mut holders = SharedHolders::default();
/// assert_eq!(holders.admit(reader, Mode::SHARED, now)?, Admission::Admitted);
/// let holder = SharedHolder::new(reader, Fence::new(1)?, None, Ttl::default(), now);
/// holders.insert(holder, Mode::SHARED);
/// holders.announce(writer, now.later_by(Duration::from_secs(1)));
/// let refused = holders.admit(LockId::mint()?, Mode::SHARED, now)?;
/// assert!(matches!(refused, Admission::Refused(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedHolders {
    permits: Option<NonZeroU32>,
    /// In the order of their fences.
    holders: Vec<SharedHolder>,
    announcement: Option<Announcement>,
    grace: Duration,
}

/// A writer's announcement that it waits for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The id of the writer's request.
    pub lock_id: LockId,
    /// When the announcement ends, on the store's clock.
    pub until: Timestamp,
}

/// Reports whether a request in shared mode is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The id has this grant already.
    Held(Grant),
    /// The request is granted. The backend takes the next fence and [inserts](SharedHolders::insert)
    /// the holder.
    Admitted,
    /// The request is refused.
    Refused(Holder),
}

impl Default for SharedHolders {
    /// Describes a key without shared holders, with the [common grace](super::Capabilities::GRACE).
    fn default() -> Self {
        Self {
            permits: None,
            holders: Vec::new(),
            announcement: None,
            grace: super::Capabilities::GRACE,
        }
    }
}

impl SharedHolders {
    /// Restores what a store has kept, whether it is live or not. The mode of exclusive locks
    /// counts as one without permits.
    pub fn restore(
        mode: Mode,
        mut holders: Vec<SharedHolder>,
        announcement: Option<Announcement>,
    ) -> Self {
        holders.sort_by_key(|holder| holder.fence);
        Self { permits: mode.permits(), holders, announcement, ..Self::default() }
    }

    /// Sets how long past its expiry a grant keeps its key, if that is not the common grace.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Removes the holders that are not live, and an announcement that has ended. Returns the
    /// holders.
    pub fn prune(&mut self, now: Timestamp) -> Vec<SharedHolder> {
        let grace = self.grace;
        self.announcement = self.announcement(now).copied();
        self.holders.extract_if(.., |holder| !holder.expires_at.is_live(now, grace)).collect()
    }

    /// Returns the holders, in the order of their fences, also those that are not live and have
    /// not been [pruned](Self::prune).
    pub fn holders(&self) -> &[SharedHolder] {
        &self.holders
    }

    /// Returns the mode in which the key is shared.
    pub fn mode(&self) -> Mode {
        Mode::Shared { permits: self.permits }
    }

    /// Returns the announcement that stands at `now`.
    pub fn announcement(&self, now: Timestamp) -> Option<&Announcement> {
        self.announcement.as_ref().filter(|announcement| announcement.until > now)
    }

    /// Returns whether there is nothing to store: no holder and no announcement, live or not.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.announcement.is_none()
    }

    /// Returns the latest expiry, which is that of the head; `None` without holders.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.holders.iter().map(|holder| holder.expires_at).max()
    }

    /// Returns whether anyone holds the key at `now`.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.live(now).next().is_some()
    }

    /// Returns the grant of `lock_id`, if it is live.
    pub fn get(&self, lock_id: LockId, now: Timestamp) -> Option<&SharedHolder> {
        self.live(now).find(|holder| holder.lock_id == lock_id)
    }

    fn live(&self, now: Timestamp) -> impl Iterator<Item = &SharedHolder> {
        let grace = self.grace;
        self.holders.iter().filter(move |holder| holder.expires_at.is_live(now, grace))
    }

    /// Decides on a request in shared mode.
    ///
    /// A grant that the id has already is returned even while an announcement stands: it is not a
    /// new one.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the key is shared with another number of
    /// permits.
    pub fn admit(&self, lock_id: LockId, mode: Mode, now: Timestamp) -> Result<Admission, Error> {
        if let Some(holder) = self.get(lock_id, now) {
            return Ok(Admission::Held(holder.grant()));
        }
        if self.is_held(now) && mode.permits() != self.permits {
            return Err(permits_differ(mode, self.mode()));
        }
        let announced = self.announcement(now).is_some();
        if announced || mode.permits().is_some_and(|permits| self.is_full(permits, now)) {
            return Ok(Admission::Refused(self.holder(mode, now)));
        }
        Ok(Admission::Admitted)
    }

    /// Adds a grant in this mode. Holders of another number of permits, which are not live if the
    /// grant was [admitted](Self::admit), are removed.
    pub fn insert(&mut self, holder: SharedHolder, mode: Mode) {
        if self.permits != mode.permits() {
            self.permits = mode.permits();
            self.holders.clear();
        }
        self.holders.retain(|other| other.lock_id != holder.lock_id);
        self.holders.push(holder);
    }

    /// Sets the expiry of a live grant to `now` plus `ttl`, and returns it.
    pub fn extend(&mut self, lock_id: LockId, ttl: Ttl, now: Timestamp) -> Option<Timestamp> {
        let grace = self.grace;
        let holder = self.holders.iter_mut().find(|holder| holder.lock_id == lock_id)?;
        if !holder.expires_at.is_live(now, grace) {
            return None;
        }
        holder.expires_at = now.after(ttl);
        Some(holder.expires_at)
    }

    /// Removes a grant, and returns whether it was live.
    pub fn remove(&mut self, lock_id: LockId, now: Timestamp) -> bool {
        let was_live = self.get(lock_id, now).is_some();
        self.holders.retain(|holder| holder.lock_id != lock_id);
        was_live
    }

    /// Keeps new holders out until `until`. Returns whether that changes what is stored: an
    /// announcement that ends later stays.
    pub fn announce(&mut self, lock_id: LockId, until: Timestamp) -> bool {
        if self.announcement.is_some_and(|announced| announced.until > until) {
            return false;
        }
        self.announcement = Some(Announcement { lock_id, until });
        true
    }

    /// Removes the announcement of `lock_id`. Returns whether there was one.
    pub fn withdraw(&mut self, lock_id: LockId) -> bool {
        let announced = self.announcement.is_some_and(|by| by.lock_id == lock_id);
        if announced {
            self.announcement = None;
        }
        announced
    }

    /// Describes the holders to a request in `mode` that is refused.
    pub fn holder(&self, mode: Mode, now: Timestamp) -> Holder {
        let free_at = |holder: &SharedHolder| holder.expires_at.later_by(self.grace);
        let expiry = if mode.is_shared() {
            let permit = self.live(now).map(free_at).min();
            // Without a limit, only the announcement keeps the request out.
            let permit = permit.filter(|_| mode.permits().is_some_and(|n| self.is_full(n, now)));
            permit.max(self.announcement(now).map(|announced| announced.until))
        } else {
            self.live(now).map(free_at).max()
        };
        Holder {
            mode: self.mode(),
            count: Some(self.live(now).count()),
            fence: self.live(now).map(|holder| holder.fence).max(),
            remaining: self.live(now).map(|holder| holder.expires_at.since(now)).max(),
            free_in: expiry.map(|expiry| expiry.since(now)),
            ..Holder::default()
        }
    }

    fn is_full(&self, permits: NonZeroU32, now: Timestamp) -> bool {
        self.live(now).count() >= permits.get() as usize
    }

    /// Returns the record of a key that is shared at `now`, with a head of this id.
    pub fn record(&self, key: LockKey, head: LockId, now: Timestamp) -> Option<LockRecord> {
        let holders: Vec<_> = self.live(now).cloned().collect();
        Some(LockRecord {
            key,
            lock_id: head,
            mode: self.mode(),
            fence: holders.iter().map(|holder| holder.fence).max()?,
            owner: None,
            acquired_at: holders.iter().map(|holder| holder.acquired_at).min()?,
            expires_at: holders.iter().map(|holder| holder.expires_at).max()?,
            observed_at: now,
            holders,
        })
    }
}

impl SharedHolder {
    /// Creates the holder of a grant that is made at `now`.
    pub fn new(
        lock_id: LockId,
        fence: Fence,
        owner: Option<Owner>,
        ttl: Ttl,
        now: Timestamp,
    ) -> Self {
        Self { lock_id, fence, owner, acquired_at: now, expires_at: now.after(ttl) }
    }

    /// Returns the grant.
    pub fn grant(&self) -> Grant {
        Grant { fence: self.fence, expires_at: self.expires_at }
    }
}

/// Returns the error of a request for a key that is shared with another number of permits.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroU32;
/// use syncguard_core::backend::{Mode, permits_differ};
///
/// let (four, five) = (NonZeroU32::new(4), NonZeroU32::new(5));
/// let error = permits_differ(Mode::Shared { permits: five }, Mode::Shared { permits: four });
/// assert!(error.to_string().contains("5 permits") && error.to_string().contains("4 permits"));
/// ```
pub fn permits_differ(requested: Mode, held: Mode) -> Error {
    let detail = format!(
        "{requested} was requested of a key that is held in {held}; all holders must name the \
         same number of permits, or none"
    );
    Error::new(ErrorKind::InvalidArgument).with_detail(detail).not_applied()
}
