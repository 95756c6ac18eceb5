//! Looking up locks.

use syncguard_core::backend::{LockQuery, LockRecord};

use crate::{
    error::Failure,
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
        LockQuery::ByKey(key) => Statement::read(&store.sql.lookup_by_key).text(key.as_str()),
        LockQuery::ById(lock_id) => Statement::read(&store.sql.lookup_by_id).text(lock_id.as_str()),
    };
    let answer = store.connections.run(statement.integer(GRACE_MS)).await?;
    answer.rows.first().map(record).transpose()
}
