//! Reading a whole lock from a row.

use std::str::from_utf8;

use sqlx::mysql::MySqlRow;
use syncguard_core::{
    LockKey,
    backend::{LockRecord, Mode},
};

use crate::{
    error::Failure,
    holders::holders,
    names::shown_head_id,
    row::{bytes, fence, lock_id, owner, timestamp},
};

/// Reads a whole lock from a row.
pub(crate) fn record(row: &MySqlRow) -> Result<LockRecord, Failure> {
    let key = bytes(row, "lock_key").and_then(|key| LockKey::new(from_utf8(key).ok()?).ok());
    let key = key.ok_or(Failure::Unreadable("key"))?;
    // In a table whose later columns are not known yet, a head is read as an exclusive lock.
    let lock_id = lock_id(row, "lock_id").or_else(|| shown_head_id(bytes(row, "lock_id")?));
    let lock_id = lock_id.ok_or(Failure::Unreadable("lock id"))?;
    let observed_at = timestamp(row, "now_ms")?;
    if let Some(holders) = holders(row)? {
        // The expiry of a head is that of a holder.
        let record = holders.record(key, lock_id, observed_at);
        return record.ok_or(Failure::Unreadable("holders"));
    }
    Ok(LockRecord {
        mode: Mode::Exclusive,
        holders: Vec::new(),
        key,
        lock_id,
        fence: fence(row)?,
        owner: owner(row),
        acquired_at: timestamp(row, "acquired_at_ms")?,
        expires_at: timestamp(row, "expires_at_ms")?,
        observed_at,
    })
}
