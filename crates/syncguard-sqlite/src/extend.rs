//! Extending locks.

use syncguard_core::{
    LockId, Timestamp, Ttl,
    backend::{Effect, ExtendOutcome, NotHeld},
};

use crate::{
    error::Failure,
    identity::DatabaseEpoch,
    key_state::KeyState,
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
    let extended = match extend_exclusive(store, ticket, lock_id, ttl, epoch).await {
        Ok(None) => extend_shared(store, ticket, lock_id, ttl, epoch).await,
        extended => extended,
    };
    match extended {
        Ok(Some(expires_at)) if store.epochs.current() == epoch => {
            Ok(ExtendOutcome::Extended { expires_at })
        }
        Err(failure) if !failure.ends_leases() => Err(failure),
        _ => Ok(ExtendOutcome::NotHeld(NotHeld::Unknown)),
    }
}

async fn extend_exclusive(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
    ttl: Ttl,
    epoch: DatabaseEpoch,
) -> Result<Option<Timestamp>, Failure> {
    let statement = Statement::new(include_str!("sql/extend.sql"))
        .text(lock_id.as_str())
        .integer(ttl.as_millis())
        .integer(GRACE_MS)
        .integer(epoch.since_ms);
    let row = store.writer.row(statement, ticket).await?;
    let expires_at = row.map(|row| timestamp(&row, "expires_at_ms")).transpose();
    expires_at.map_err(|failure| failure.after(Effect::MayHaveApplied))
}

/// Sets the expiry of a live shared grant. Fails if the id has a record that cannot be read.
async fn extend_shared(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
    ttl: Ttl,
    epoch: DatabaseEpoch,
) -> Result<Option<Timestamp>, Failure> {
    let extend = |rows: &[_]| {
        let held = KeyState::shared_by(rows, lock_id)?
            .filter(|held| held.holder.acquired_at.unix_millis() >= epoch.since_ms);
        Ok(match held {
            Some(held) => {
                let expires_at = held.now.after(ttl);
                (held.extend(expires_at), Some(expires_at))
            }
            None => (Vec::new(), None),
        })
    };
    store.writer.transact(KeyState::by_id(lock_id), extend, ticket).await
}
