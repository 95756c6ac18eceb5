//! Reading the rows of an answer.

use std::str::FromStr;

use sqlx::{Decode, Postgres, Row, Type, postgres::PgRow};
use syncguard_core::{Fence, Owner, Timestamp, backend::Capabilities};

use crate::error::Failure;

/// How long a grant keeps its key past its expiry, in milliseconds, as statements take it.
pub(crate) const GRACE_MS: i64 = Capabilities::GRACE.as_millis() as i64;

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
