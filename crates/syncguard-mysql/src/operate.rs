//! What operators do.

use std::time::Duration;

use syncguard_core::{
    ListRequest, LockKey, LockPage, LockQuery, LockRecord, PageToken, ReleaseOutcome,
};

use crate::{
    backend::Store,
    error::Failure,
    lookup::{GRACE_MS, lookup, record},
    release::release,
    statement::Statement,
};

/// How long the mark of an abandoned id is kept at the least.
///
/// It must outlast an acquire that is still on its way. Linux delivers what it still has of a lost
/// connection, or gives it up, 15 to 30 minutes after the first loss (`tcp_retries2`).
const MARK: Duration = Duration::from_secs(60 * 60);

/// How many rows of a kind are pruned in one go, so that no statement takes long.
const BATCH: i64 = 1_000;

/// Gives the live locks whose keys begin with a prefix, in the order of their keys.
pub(crate) async fn list(store: &Store, request: &ListRequest) -> Result<LockPage, Failure> {
    let limit = request.limit.max(1);
    let statement = Statement::read(&store.sql.list)
        .integer(GRACE_MS)
        .text(&request.prefix)
        .text(request.after.as_ref().map_or("", PageToken::as_str))
        .integer(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = store.connections.run(statement).await?.rows;
    let locks = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
    let last = locks.last().filter(|_| locks.len() >= limit);
    let next = last.map(|lock| PageToken::new(lock.key.as_str()));
    Ok(LockPage { locks, next })
}

/// Ends the live grant of a key and gives its record: two round trips, or more if the key changes hands
/// between them. What is ended is the grant that is given.
pub(crate) async fn force_release(
    store: &Store,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let query = LockQuery::ByKey(key.clone());
    loop {
        let Some(record) = lookup(store, &query).await? else {
            return Ok(None);
        };
        if release(store, record.lock_id).await? == ReleaseOutcome::Released {
            return Ok(Some(record));
        }
    }
}

/// Clears away what is left of grants that have been over for `older_than`, and gives the number of
/// rows.
pub(crate) async fn prune(store: &Store, older_than: Duration) -> Result<u64, Failure> {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // A century is for ever, and leaves room for a subtraction.
    let older_than = millis(older_than).clamp(GRACE_MS, 100 * 366 * 24 * 3_600_000);
    let mut pruned = 0;
    loop {
        let statement = Statement::write(&store.sql.prune)
            .integer(older_than)
            .integer(older_than.max(millis(MARK)))
            .integer(BATCH);
        let changed = store.connections.run(statement).await?.changed;
        pruned += changed;
        if changed < BATCH.unsigned_abs() {
            return Ok(pruned);
        }
    }
}
