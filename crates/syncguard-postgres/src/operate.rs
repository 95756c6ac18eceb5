//! Operations for operators.

use syncguard_core::{
    Error, LockKey,
    backend::{ListRequest, LockPage, LockRecord, PageToken},
    pool::Priority,
};

use crate::{
    error::Failure,
    names::{StoredKey, WAITER_CLASS, escaped},
    record::record,
    row::{GRACE_MS, text},
    statement::Statement,
    store::Store,
};

/// Returns the live locks whose keys begin with a prefix, in the order of their keys as stored.
/// Records that cannot be read are left out, and their number is logged.
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

/// Ends the live grant of a key and returns its record. A record that cannot be read is cleared,
/// and reported as such by an error.
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
