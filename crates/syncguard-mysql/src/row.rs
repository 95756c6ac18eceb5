//! Reading the rows of an answer.

use std::str::from_utf8;

use sqlx::{Decode, MySql, Row, Type, mysql::MySqlRow};
use syncguard_core::{Fence, LockId, Owner, Timestamp, backend::Capabilities};

use crate::error::Failure;

/// How long a grant keeps its key past its expiry, in milliseconds, as statements take it.
pub(crate) const GRACE_MS: i64 = Capabilities::GRACE.as_millis() as i64;

/// Reads a lock id from a row.
pub(crate) fn lock_id(row: &MySqlRow, column: &'static str) -> Option<LockId> {
    from_utf8(bytes(row, column)?).ok()?.parse().ok()
}

/// Reads the fence from a row.
pub(crate) fn fence(row: &MySqlRow) -> Result<Fence, Failure> {
    Fence::new(value(row, "fence")?).map_err(|_| Failure::Unreadable("fence"))
}

/// Reads the label from a row. It is for people to see, so one that cannot be shown is left out.
pub(crate) fn owner(row: &MySqlRow) -> Option<Owner> {
    text(row, "owner").and_then(|label| Owner::new(label).ok())
}

/// Reads a point in time from a row.
pub(crate) fn timestamp(row: &MySqlRow, column: &'static str) -> Result<Timestamp, Failure> {
    value(row, column).map(Timestamp::from_unix_millis)
}

/// Reads a text from a row, or `None` if it is NULL.
pub(crate) fn text<'r>(row: &'r MySqlRow, column: &'static str) -> Option<&'r str> {
    row.try_get(column).ok()
}

/// Reads a string of bytes from a row, or `None` if it is NULL.
pub(crate) fn bytes<'r>(row: &'r MySqlRow, column: &'static str) -> Option<&'r [u8]> {
    row.try_get(column).ok()
}

/// Reads a value from a row.
pub(crate) fn value<'r, T>(row: &'r MySqlRow, column: &'static str) -> Result<T, Failure>
where
    T: Decode<'r, MySql> + Type<MySql>,
{
    row.try_get(column).map_err(|_| Failure::UnreadableAnswer(column))
}
