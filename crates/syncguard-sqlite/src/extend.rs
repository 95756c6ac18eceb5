//! Extending.

use syncguard_core::{ExtendOutcome, LockId, NotHeld, Ttl};

use crate::{
    error::Failure,
    lookup::{GRACE_MS, timestamp},
    statement::Statement,
    store::Store,
    worker::Ticket,
};

/// Sets the expiry of a live grant to now plus `ttl`.
pub(crate) async fn extend(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let statement = Statement::new(include_str!("sql/extend.sql"))
        .text(lock_id.as_str())
        .integer(ttl.as_millis())
        .integer(GRACE_MS);
    match store.writer.row(statement, ticket).await? {
        Some(row) => Ok(ExtendOutcome::Extended { expires_at: timestamp(&row, "expires_at_ms")? }),
        None => Ok(ExtendOutcome::NotHeld(NotHeld::Unknown)),
    }
}
