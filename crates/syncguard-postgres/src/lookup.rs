//! Looking up locks.

use syncguard_core::backend::{LockQuery, LockRecord};

use crate::{
    error::Failure, names::StoredKey, record::record, row::GRACE_MS, statement::Statement,
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
    let record = record(&store.connections.row(statement.integer(GRACE_MS)).await?)?;
    Ok(record.filter(|record| holds(record, query)))
}

/// Returns whether the record is live for the query: an id in shared mode is one holder of many.
fn holds(record: &LockRecord, query: &LockQuery) -> bool {
    match query {
        LockQuery::ById(lock_id) if record.mode.is_shared() => {
            record.holders.iter().any(|holder| holder.lock_id == *lock_id)
        }
        _ => true,
    }
}
