//! What is stored of a key.

use sqlx::{Row, sqlite::SqliteRow};
use syncguard_core::{
    Fence, LockId, LockKey, Timestamp,
    backend::{Capabilities, Counters, LockRecord, Mode, SharedHolders},
};

use crate::{
    error::Failure,
    holder::Held,
    row::{announcement, fence, is_null, is_present, shared_holder, stored_record, timestamp},
    statement::Statement,
};

/// The grants of a key and the announcement of a writer, as one statement read them.
///
/// **Invariant:** the row of the key decides until when anyone holds it: it is the exclusive grant,
/// or the head, whose expiry is the latest of the holders'. The holders of a head that is over are
/// not read.
pub(crate) struct KeyState<'r> {
    /// When it was read.
    pub(crate) now: Timestamp,
    /// The shared holders and the announcement.
    pub(crate) holders: SharedHolders,
    lock: Option<LockRecord>,
    is_shared: bool,
    row: &'r SqliteRow,
}

impl<'r> KeyState<'r> {
    /// Returns the statement that reads a key for an id that requests it.
    pub(crate) fn by_key(key: &LockKey, lock_id: Option<LockId>) -> Statement {
        Statement::new(include_str!("sql/key_state.sql"))
            .text(key.as_str())
            .text_or_null(lock_id.as_ref().map(LockId::as_str))
    }

    /// Returns the statement that reads the key that an id holds, without its announcement. It has
    /// no rows if the id holds none.
    pub(crate) fn by_id(lock_id: LockId) -> Statement {
        Statement::new(include_str!("sql/id_state.sql")).text(lock_id.as_str())
    }

    /// Reads the rows of such a statement. Without the columns of shared mode, nothing is shared.
    pub(crate) fn read(rows: &'r [SqliteRow]) -> Result<Self, Failure> {
        let row = rows.first().ok_or(Failure::Unreadable("clock"))?;
        let now = timestamp(row, "now_ms")?;
        let lock = if is_null(row, "key") { None } else { stored_record(row)? };
        let lock = lock.filter(|lock| lock.expires_at.is_live(now, Capabilities::GRACE));
        let is_shared = lock.is_some() && is_present(row, "holder_id");
        let (mut mode, mut holders) = (Mode::SHARED, Vec::new());
        for row in rows.iter().filter(|_| is_shared) {
            let (its_mode, holder) = shared_holder(row)?;
            if !holders.is_empty() && mode != its_mode {
                return Err(Failure::Unreadable("number of permits"));
            }
            mode = its_mode;
            holders.push(holder);
        }
        let holders = SharedHolders::restore(mode, holders, announcement(row)?);
        Ok(Self { now, holders, lock, is_shared, row })
    }

    /// Reads the shared grant of an id from the rows of a statement by this id, if it is live.
    pub(crate) fn shared_by(
        rows: &'r [SqliteRow],
        lock_id: LockId,
    ) -> Result<Option<Held>, Failure> {
        if rows.is_empty() {
            return Ok(None);
        }
        let state = Self::read(rows)?;
        let holder = state.holders.get(lock_id, state.now).cloned();
        let now = state.now;
        Ok(state.head().zip(holder).map(|(head, holder)| Held { head, holder, now }))
    }

    /// Returns the exclusive grant, if it is live.
    pub(crate) fn exclusive(&self) -> Option<&LockRecord> {
        self.lock.as_ref().filter(|_| !self.is_shared)
    }

    /// Returns the id of the head, if it is live.
    pub(crate) fn head(&self) -> Option<LockId> {
        self.lock.as_ref().filter(|_| self.is_shared).map(|lock| lock.lock_id)
    }

    /// Returns the record of the key, if anyone holds it.
    pub(crate) fn record(&self) -> Option<LockRecord> {
        let lock = self.lock.clone()?;
        match self.is_shared {
            true => self.holders.record(lock.key, lock.lock_id, self.now),
            false => Some(lock),
        }
    }

    /// Returns whether an id holds the key. The id of a head holds nothing.
    pub(crate) fn is_held_by(&self, lock_id: LockId) -> bool {
        match self.exclusive() {
            Some(lock) => lock.lock_id == lock_id,
            None => self.holders.get(lock_id, self.now).is_some(),
        }
    }

    /// Returns whether anyone holds the key, or a writer has announced itself for it.
    pub(crate) fn is_taken(&self) -> bool {
        self.record().is_some() || self.holders.announcement(self.now).is_some()
    }

    /// Returns whether the id that requests the key was abandoned.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.row.try_get("abandoned").unwrap_or(true)
    }

    /// Returns the fence of the last grant, if there was one.
    pub(crate) fn counted(&self) -> Result<Option<Fence>, Failure> {
        if is_null(self.row, "key") { Ok(None) } else { fence(self.row, "fence").map(Some) }
    }

    /// Returns the fence of the next grant.
    pub(crate) fn next_fence(&self, counters: Counters) -> Result<Fence, Failure> {
        counters.next(self.counted()?, self.now).ok_or(Failure::FenceLimit)
    }
}
