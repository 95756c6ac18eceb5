//! Looking up locks.

use syncguard_core::{
    LockKey,
    backend::{LockQuery, LockRecord},
};

use crate::{error::Failure, key_state::KeyState, store::Store, worker::Ticket};

/// Reads a live lock.
pub(crate) async fn lookup(
    store: &Store,
    ticket: &Ticket,
    query: &LockQuery,
) -> Result<Option<LockRecord>, Failure> {
    let statement = match query {
        LockQuery::ByKey(key) => KeyState::by_key(key, None),
        LockQuery::ById(lock_id) => KeyState::by_id(*lock_id),
    };
    let rows = store.reader.rows(statement, ticket).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let state = KeyState::read(&rows)?;
    Ok(state.record().filter(|_| match query {
        LockQuery::ByKey(_) => true,
        LockQuery::ById(lock_id) => state.is_held_by(*lock_id),
    }))
}

/// Returns whether a key has a live grant.
pub(crate) async fn is_locked(
    store: &Store,
    ticket: &Ticket,
    key: &LockKey,
) -> Result<bool, Failure> {
    Ok(lookup(store, ticket, &LockQuery::ByKey(key.clone())).await?.is_some())
}
