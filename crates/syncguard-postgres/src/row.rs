//! Reading the rows of an answer.

use std::str::FromStr;

use sqlx::{Decode, Postgres, Row, Type, postgres::PgRow};
use syncguard_core::{
    Fence, Owner, Timestamp,
    backend::{Capabilities, LockRecord, Mode},
};

use crate::{error::Failure, names::user_key, sharing::sharing_now};

/// How long a grant keeps its key past its expiry, in milliseconds, as statements take it.
pub(crate) const GRACE_MS: i64 = Capabilities::GRACE.as_millis() as i64;

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

/// Reads a fence from a row, or `None` if it is NULL.
pub(crate) fn fence(row: &PgRow, column: &'static str) -> Result<Option<Fence>, Failure> {
    let read = |text| Fence::from_str(text).map_err(|_| Failure::Unreadable("fence"));
    text(row, column).map(read).transpose()
}

/// Reads a label from a row. It is for people to see, so one that cannot be shown is left out.
pub(crate) fn owner(row: &PgRow, column: &'static str) -> Option<Owner> {
    text(row, column).and_then(|label| Owner::new(label).ok())
}

/// Reads a point in time from a row.
pub(crate) fn timestamp(row: &PgRow, column: &'static str) -> Result<Timestamp, Failure> {
    value(row, column).map(Timestamp::from_unix_millis)
}

/// Reads a text from a row, or `None` if it is NULL.
pub(crate) fn text<'r>(row: &'r PgRow, column: &'static str) -> Option<&'r str> {
    row.try_get(column).ok()
}

/// Reads a value from a row.
pub(crate) fn value<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T, Failure>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(column).map_err(|_| Failure::UnreadableAnswer(column))
}
