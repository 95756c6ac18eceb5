//! What the row of a key contains in shared mode.

use std::{collections::BTreeMap, num::NonZeroU32};

use serde::Deserialize;
use sqlx::postgres::PgRow;
use syncguard_core::{
    Fence, LockId, Owner, Timestamp,
    backend::{Announcement, Mode, SharedHolder, SharedHolders},
};

use crate::{
    error::Failure,
    row::{text, timestamp},
};

/// The columns of a head, as `{shared}` returns them.
#[derive(Deserialize)]
struct StoredSharing {
    permits: Option<NonZeroU32>,
    holders: BTreeMap<String, StoredHolder>,
    announced_by: Option<String>,
    announced_until_ms: Option<i64>,
}

/// A holder, as the functions of shared mode store it.
#[derive(Deserialize)]
struct StoredHolder {
    fence: Fence,
    acquired_at_ms: i64,
    expires_at_ms: i64,
    owner: Option<String>,
}

/// Reads the holders and the announcement of a key, live or not, and when they were read. Returns
/// `None` if the key is not in shared mode.
pub(crate) fn sharing_now(row: &PgRow) -> Result<Option<(SharedHolders, Timestamp)>, Failure> {
    let Some(stored) = text(row, "shared") else { return Ok(None) };
    let stored = serde_json::from_str(stored).ok().and_then(StoredSharing::restore);
    let holders = stored.ok_or(Failure::Unreadable("holders"))?;
    Ok(Some((holders, timestamp(row, "now_ms")?)))
}

impl StoredSharing {
    /// Returns `None` if an id cannot be read.
    fn restore(self) -> Option<SharedHolders> {
        let Self { permits, holders, announced_by, announced_until_ms } = self;
        let holder =
            |(lock_id, stored): (String, StoredHolder)| Some(stored.holder(lock_id.parse().ok()?));
        let holders = holders.into_iter().map(holder).collect::<Option<_>>()?;
        let announcement = match announced_by.zip(announced_until_ms) {
            None => None,
            Some((lock_id, until)) => Some(Announcement {
                lock_id: lock_id.parse().ok()?,
                until: Timestamp::from_unix_millis(until),
            }),
        };
        Some(SharedHolders::restore(Mode::Shared { permits }, holders, announcement))
    }
}

impl StoredHolder {
    fn holder(self, lock_id: LockId) -> SharedHolder {
        SharedHolder {
            lock_id,
            fence: self.fence,
            // A label is for people to see, so one that cannot be shown is left out.
            owner: self.owner.and_then(|label| Owner::new(&label).ok()),
            acquired_at: Timestamp::from_unix_millis(self.acquired_at_ms),
            expires_at: Timestamp::from_unix_millis(self.expires_at_ms),
        }
    }
}
