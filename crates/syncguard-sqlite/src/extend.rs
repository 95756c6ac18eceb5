//! Extending locks.

use syncguard_core::{
    LockId, Ttl,
    backend::{Effect, ExtendOutcome, NotHeld},
};

use crate::{
    error::Failure,
    lookup::why_not_held,
    row::{GRACE_MS, timestamp},
    statement::Statement,
    store::Store,
    worker::Ticket,
};

/// Sets the expiry of a live grant to now plus `ttl`.
///
/// A grant that was made before the database was replaced has ended: a copy that took its place may
/// contain the record, but other ids may have been granted the key meanwhile. Such a grant is
/// recognized by its time, or because the replacement is found now.
pub(crate) async fn extend(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let epoch = store.epochs.current();
    let statement = Statement::new(include_str!("sql/extend.sql"))
        .text(lock_id.as_str())
        .integer(ttl.as_millis())
        .integer(GRACE_MS)
        .integer(epoch.since_ms);
    match store.writer.row(statement, ticket).await {
        Ok(Some(row)) if store.epochs.current() == epoch => {
            let expires_at = timestamp(&row, "expires_at_ms");
            let expires_at = expires_at.map_err(|failure| failure.after(Effect::MayHaveApplied))?;
            Ok(ExtendOutcome::Extended { expires_at })
        }
        Ok(None) => why_not_held(store, ticket, lock_id).await.map(ExtendOutcome::NotHeld),
        Err(failure) if !failure.ends_leases() => Err(failure),
        _ => Ok(ExtendOutcome::NotHeld(NotHeld::Unknown)),
    }
}
