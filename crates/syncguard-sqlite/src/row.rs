//! Reading the rows of an answer.

use std::num::NonZeroU32;

use sqlx::{Row, ValueRef, sqlite::SqliteRow};
use syncguard_core::{
    Fence, LockKey, Owner, Timestamp,
    backend::{Announcement, Capabilities, LockRecord, Mode, SharedHolder},
};

use crate::error::Failure;

/// How long a grant keeps its key past its expiry, in milliseconds, as statements take it.
pub(crate) const GRACE_MS: i64 = Capabilities::GRACE.as_millis() as i64;

/// Reads the record of a key, live or expired. Returns `None` if its last grant was released.
///
/// No grant replaces a record that cannot be read, and only a row that is empty except for its
/// counter counts as a released key.
pub(crate) fn stored_record(row: &SqliteRow) -> Result<Option<LockRecord>, Failure> {
    let columns = ["lock_id", "owner", "acquired_at_ms", "expires_at_ms"];
    if columns.into_iter().all(|column| is_null(row, column)) {
        return Ok(None);
    }
    record(row).map(Some)
}

/// Reads a whole lock from a row.
pub(crate) fn record(row: &SqliteRow) -> Result<LockRecord, Failure> {
    let key = text(row, "key").and_then(|text| LockKey::new(text).ok());
    let lock_id = text(row, "lock_id").and_then(|text| text.parse().ok());
    Ok(LockRecord {
        mode: Mode::Exclusive,
        holders: Vec::new(),
        key: key.ok_or(Failure::Unreadable("key"))?,
        lock_id: lock_id.ok_or(Failure::Unreadable("lock id"))?,
        fence: fence(row, "fence")?,
        owner: owner(row, "owner"),
        acquired_at: timestamp(row, "acquired_at_ms")?,
        expires_at: timestamp(row, "expires_at_ms")?,
        observed_at: timestamp(row, "now_ms")?,
    })
}

/// Reads a shared holder from a row, and the number of permits of its mode.
pub(crate) fn shared_holder(row: &SqliteRow) -> Result<(Mode, SharedHolder), Failure> {
    let lock_id = text(row, "holder_id").and_then(|text| text.parse().ok());
    let holder = SharedHolder {
        lock_id: lock_id.ok_or(Failure::Unreadable("lock id of a shared holder"))?,
        fence: fence(row, "holder_fence")?,
        owner: owner(row, "holder_owner"),
        acquired_at: timestamp(row, "holder_acquired_at_ms")?,
        expires_at: timestamp(row, "holder_expires_at_ms")?,
    };
    Ok((Mode::Shared { permits: permits(row)? }, holder))
}

fn permits(row: &SqliteRow) -> Result<Option<NonZeroU32>, Failure> {
    if is_null(row, "holder_permits") {
        return Ok(None);
    }
    let number = integer(row, "holder_permits").and_then(|number| u32::try_from(number).ok());
    number.and_then(NonZeroU32::new).map(Some).ok_or(Failure::Unreadable("number of permits"))
}

/// Reads the announcement of a writer from a row, if it has one.
pub(crate) fn announcement(row: &SqliteRow) -> Result<Option<Announcement>, Failure> {
    if !is_present(row, "writer_id") {
        return Ok(None);
    }
    let lock_id = text(row, "writer_id").and_then(|text| text.parse().ok());
    let lock_id = lock_id.ok_or(Failure::Unreadable("lock id of an announcement"))?;
    Ok(Some(Announcement { lock_id, until: timestamp(row, "writer_until_ms")? }))
}

/// Returns whether a row has a column that is not NULL.
pub(crate) fn is_present(row: &SqliteRow, column: &'static str) -> bool {
    row.try_get_raw(column).is_ok_and(|value| !value.is_null())
}

/// Returns whether a column of a row is NULL.
pub(crate) fn is_null(row: &SqliteRow, column: &'static str) -> bool {
    row.try_get_raw(column).is_ok_and(|value| value.is_null())
}

/// Reads a fence from a row.
pub(crate) fn fence(row: &SqliteRow, column: &'static str) -> Result<Fence, Failure> {
    let number = integer(row, column).and_then(|number| u64::try_from(number).ok());
    number.and_then(|number| Fence::new(number).ok()).ok_or(Failure::Unreadable("fence"))
}

/// Reads an owner from a row. It is only for display, so one that is not valid is omitted.
fn owner(row: &SqliteRow, column: &'static str) -> Option<Owner> {
    text(row, column).and_then(|label| Owner::new(label).ok())
}

/// Reads a point in time from a row.
pub(crate) fn timestamp(row: &SqliteRow, column: &'static str) -> Result<Timestamp, Failure> {
    let millis = integer(row, column).ok_or(Failure::Unreadable(column))?;
    Ok(Timestamp::from_unix_millis(millis))
}

/// Reads an integer from a row. The driver decodes NULL as 0 unless it decodes an `Option`.
pub(crate) fn integer(row: &SqliteRow, column: &'static str) -> Option<i64> {
    row.try_get::<Option<i64>, _>(column).ok().flatten()
}

/// Reads a text from a row, or `None` if it is NULL.
pub(crate) fn text<'r>(row: &'r SqliteRow, column: &'static str) -> Option<&'r str> {
    row.try_get(column).ok()
}
