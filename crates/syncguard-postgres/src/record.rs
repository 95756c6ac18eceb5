//! Reading a whole lock from a row.

use sqlx::postgres::PgRow;
use syncguard_core::backend::{LockRecord, Mode};

use crate::{
    error::Failure,
    names::user_key,
    row::{fence, owner, text, timestamp},
    sharing::sharing_now,
};

/// Reads a whole lock from a row. Returns `None` if the row has no lock, or no holder in shared mode.
pub(crate) fn record(row: &PgRow) -> Result<Option<LockRecord>, Failure> {
    let Some(key) = text(row, "key") else {
        return Ok(None);
    };
    let user_key = text(row, "user_key").and_then(|text| user_key(key, text));
    let lock_id = text(row, "lock_id").and_then(|text| text.parse().ok());
    let key = user_key.ok_or(Failure::Unreadable("key"))?;
    let lock_id = lock_id.ok_or(Failure::Unreadable("lock id"))?;
    if let Some((holders, now)) = sharing_now(row)? {
        return Ok(holders.record(key, lock_id, now));
    }
    Ok(Some(LockRecord {
        mode: Mode::Exclusive,
        holders: Vec::new(),
        key,
        lock_id,
        fence: fence(row, "fence")?.ok_or(Failure::Unreadable("fence"))?,
        owner: owner(row, "owner"),
        acquired_at: timestamp(row, "acquired_at_ms")?,
        expires_at: timestamp(row, "expires_at_ms")?,
        observed_at: timestamp(row, "now_ms")?,
    }))
}
