//! Looking up, and reading rows.

use sqlx::{Row, sqlite::SqliteRow};
use syncguard_core::{Capabilities, Fence, LockKey, LockQuery, LockRecord, Owner, Timestamp};

use crate::{error::Failure, statement::Statement, store::Store, worker::Ticket};

/// How long past its expiry a grant still keeps its key, as statements take it.
pub(crate) const GRACE_MS: i64 = Capabilities::GRACE.as_millis() as i64;

/// Reads a live lock.
pub(crate) async fn lookup(
    store: &Store,
    ticket: &Ticket,
    query: &LockQuery,
) -> Result<Option<LockRecord>, Failure> {
    let statement = match query {
        LockQuery::ByKey(key) => {
            Statement::new(include_str!("sql/lookup_by_key.sql")).text(key.as_str())
        }
        LockQuery::ById(lock_id) => {
            Statement::new(include_str!("sql/lookup_by_id.sql")).text(lock_id.as_str())
        }
    };
    let row = store.reader.row(statement.integer(GRACE_MS), ticket).await?;
    row.as_ref().map(record).transpose()
}

/// Tells whether a key has a live grant.
pub(crate) async fn is_locked(
    store: &Store,
    ticket: &Ticket,
    key: &LockKey,
) -> Result<bool, Failure> {
    let statement =
        Statement::new(include_str!("sql/is_locked.sql")).text(key.as_str()).integer(GRACE_MS);
    let row = store.reader.row(statement, ticket).await?;
    row.and_then(|row| row.try_get("locked").ok()).ok_or(Failure::Unreadable("state"))
}

/// Reads a whole lock from a row.
pub(crate) fn record(row: &SqliteRow) -> Result<LockRecord, Failure> {
    let key = text(row, "key").and_then(|text| LockKey::new(text).ok());
    let lock_id = text(row, "lock_id").and_then(|text| text.parse().ok());
    Ok(LockRecord {
        key: key.ok_or(Failure::Unreadable("key"))?,
        lock_id: lock_id.ok_or(Failure::Unreadable("lock id"))?,
        fence: fence(row)?,
        owner: owner(row),
        acquired_at: timestamp(row, "acquired_at_ms")?,
        expires_at: timestamp(row, "expires_at_ms")?,
        observed_at: timestamp(row, "now_ms")?,
    })
}

/// Reads the fence from a row.
pub(crate) fn fence(row: &SqliteRow) -> Result<Fence, Failure> {
    let number = row.try_get("fence").ok().and_then(|number: i64| u64::try_from(number).ok());
    number.and_then(|number| Fence::new(number).ok()).ok_or(Failure::Unreadable("fence"))
}

/// Reads the label from a row. It is for people to see, so one that cannot be shown is left out.
pub(crate) fn owner(row: &SqliteRow) -> Option<Owner> {
    text(row, "owner").and_then(|label| Owner::new(label).ok())
}

/// Reads a point in time from a row.
pub(crate) fn timestamp(row: &SqliteRow, column: &'static str) -> Result<Timestamp, Failure> {
    let millis = row.try_get(column).map_err(|_| Failure::Unreadable(column))?;
    Ok(Timestamp::from_unix_millis(millis))
}

/// Reads a text from a row, `None` where it is NULL.
pub(crate) fn text<'r>(row: &'r SqliteRow, column: &'static str) -> Option<&'r str> {
    row.try_get(column).ok()
}
