//! Looking up locks.

use syncguard_core::{
    LockId, LockKey,
    backend::{Capabilities, LockQuery, LockRecord, NotHeld},
};

use crate::{
    error::Failure, row::stored_record, statement::Statement, store::Store, worker::Ticket,
};

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
    let Some(row) = store.reader.row(statement, ticket).await? else {
        return Ok(None);
    };
    Ok(stored_record(&row)?
        .filter(|lock| lock.expires_at.is_live(lock.observed_at, Capabilities::GRACE)))
}

/// Returns whether a key has a live grant.
pub(crate) async fn is_locked(
    store: &Store,
    ticket: &Ticket,
    key: &LockKey,
) -> Result<bool, Failure> {
    Ok(lookup(store, ticket, &LockQuery::ByKey(key.clone())).await?.is_some())
}

/// Checks why an id holds nothing. Fails if the id has a record that cannot be read.
pub(crate) async fn why_not_held(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
) -> Result<NotHeld, Failure> {
    lookup(store, ticket, &LockQuery::ById(lock_id)).await?;
    Ok(NotHeld::Unknown)
}
