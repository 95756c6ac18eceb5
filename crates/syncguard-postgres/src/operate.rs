//! What operators do.

use std::time::Duration;

use syncguard_core::{
    Error, ListRequest, LockKey, LockPage, LockRecord, PageToken, pool::Priority,
};

use crate::{
    error::Failure,
    keys::{StoredKey, WAITER_CLASS, escaped},
    lookup::{GRACE_MS, record, text, value},
    statement::Statement,
    store::Store,
};

/// How long the mark of an abandoned id is kept at least.
///
/// It must outlast an acquire that is still on its way. Linux delivers what it still has of a lost
/// connection, or gives it up, 15 to 30 minutes after the first loss (`tcp_retries2`).
pub(crate) const MARK: Duration = Duration::from_secs(60 * 60);

/// How many rows are deleted in one go, so that no statement takes long.
const BATCH: i64 = 1_000;

/// Returns the live locks whose keys begin with a prefix, in the order of their keys as stored. Records
/// that cannot be read are left out, and their number is logged.
pub(crate) async fn list(store: &Store, request: &ListRequest) -> Result<LockPage, Failure> {
    let limit = request.limit.max(1);
    let prefix = Some(request.prefix.as_str()).filter(|prefix| !prefix.contains('\0'));
    let statement = Statement::read(&store.sql.list)
        .integer(GRACE_MS)
        .text_or_null(prefix)
        .text(&escaped(&request.prefix))
        .text_or_null(request.after.as_ref().map(PageToken::as_str))
        .integer(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = store.connections.rows(statement).await?;
    let last = rows.last().filter(|_| rows.len() >= limit).and_then(|row| text(row, "key"));
    let next = last.map(PageToken::new);
    let (mut locks, mut unreadable) = (Vec::with_capacity(rows.len()), 0_usize);
    for row in &rows {
        match record(row) {
            Ok(record) => locks.extend(record),
            Err(Failure::Unreadable(_)) => unreadable += 1,
            Err(failure) => return Err(failure),
        }
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, "records that cannot be read are left out of a list of locks");
    }
    Ok(LockPage { locks, next })
}

/// Ends the live grant of a key and returns its record. One that cannot be read is cleared, and reported as
/// an error that says so.
pub(crate) async fn force_release(
    store: &Store,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let statement = Statement::write(&store.sql.force_release)
        .text(&StoredKey::of(key)?.key)
        .integer(GRACE_MS)
        .text(&store.channel)
        .short(WAITER_CLASS);
    match record(&store.connections.row_for(Priority::Release, statement).await?) {
        Err(Failure::Unreadable(what)) => Err(Error::cleared(what).into()),
        ended => ended,
    }
}

/// Deletes the rows of grants that have been over for `older_than`, and gives their number.
pub(crate) async fn prune(store: &Store, older_than: Duration) -> Result<u64, Failure> {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // A century is for ever, and leaves room for a subtraction.
    let older_than = millis(older_than).clamp(GRACE_MS, 100 * 366 * 24 * 3_600_000);
    let mut pruned = 0;
    loop {
        let statement = Statement::write(&store.sql.prune)
            .integer(older_than)
            .integer(millis(MARK))
            .integer(LockKey::MAX_BYTES.try_into().unwrap_or(i64::MAX))
            .integer(BATCH);
        let deleted: i64 = value(&store.connections.row(statement).await?, "deleted")?;
        pruned += u64::try_from(deleted).unwrap_or_default();
        if deleted < BATCH {
            return Ok(pruned);
        }
    }
}
