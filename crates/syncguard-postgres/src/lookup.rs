//! Looking up locks.

use syncguard_core::backend::{LockQuery, LockRecord};

use crate::{
    error::Failure,
    names::StoredKey,
    row::{GRACE_MS, record},
    statement::Statement,
    store::Store,
};

/// Reads a live lock.
pub(crate) async fn lookup(
    store: &Store,
    query: &LockQuery,
) -> Result<Option<LockRecord>, Failure> {
    let statement = match query {
        LockQuery::ByKey(key) => {
            Statement::read(&store.sql.lookup_by_key).text(&StoredKey::of(key)?.key)
        }
        LockQuery::ById(lock_id) => Statement::read(&store.sql.lookup_by_id).text(lock_id.as_str()),
    };
    record(&store.connections.row(statement.integer(GRACE_MS)).await?)
}
