//! Looking up locks.

use syncguard_core::{
    LockId, LockKey,
    backend::{LockQuery, LockRecord},
    pool::Priority,
};

use crate::{
    error::Failure,
    record::record,
    row::GRACE_MS,
    sql::SharingSql,
    statement::{Answer, Statement},
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
    match (answer.rows.first(), query) {
        (Some(row), _) => record(row).map(Some),
        (None, LockQuery::ById(lock_id)) => lookup_shared(store, *lock_id, Priority::Acquire).await,
        (None, LockQuery::ByKey(_)) => Ok(None),
    }
}

/// Reads the lock that an id shares.
async fn lookup_shared(
    store: &Store,
    lock_id: LockId,
    priority: Priority,
) -> Result<Option<LockRecord>, Failure> {
    let Some(sql) = &store.sql.sharing else {
        return Ok(None);
    };
    let statement = Statement::read(&sql.lookup_by_member).text(lock_id.as_str()).integer(GRACE_MS);
    let answer = store.connections.run_for(priority, statement).await?;
    let record = answer.rows.first().map(record).transpose()?;
    // The row of a member may outlast its grant.
    let is_holder = |record: &LockRecord| record.holders.iter().any(|h| h.lock_id == lock_id);
    Ok(record.filter(is_holder))
}

/// Runs a statement on the key that an id shares. Returns its answer, or `None` if it changed
/// nothing because the id shares no key.
///
/// It takes one round trip if this backend has made the grant. Otherwise, it looks the key up, which
/// also reports holders that cannot be read.
pub(crate) async fn on_shared_key(
    store: &Store,
    lock_id: LockId,
    priority: Priority,
    statement: impl Fn(&SharingSql, &LockKey) -> Statement + Send + Sync,
) -> Result<Option<Answer>, Failure> {
    let Some(sql) = &store.sql.sharing else {
        return Ok(None);
    };
    let run = async |key: &LockKey| {
        let answer = store.connections.run_for(priority, statement(sql, key)).await?;
        Ok::<_, Failure>((answer.changed > 0).then_some(answer))
    };
    if let Some(key) = store.readers.key(lock_id) {
        let answer = run(&key).await?;
        if answer.is_some() {
            return Ok(answer);
        }
        store.readers.remove(lock_id);
    }
    match lookup_shared(store, lock_id, priority).await? {
        Some(record) => run(&record.key).await,
        None => Ok(None),
    }
}
