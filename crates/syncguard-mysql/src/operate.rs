//! Operations for operators.

use std::str::from_utf8;

use sqlx::mysql::MySqlRow;
use syncguard_core::{
    Error, LockKey,
    backend::{ListRequest, LockPage, LockRecord, PageToken, SharedHolder, SharedHolders},
    pool::Priority,
};

use crate::{
    error::Failure,
    holders::holders,
    names::member_key,
    record::record,
    row::{GRACE_MS, bytes, value},
    statement::{Statement, digits},
    store::Store,
};

/// Returns the live locks whose keys begin with a prefix, in the order of their keys. Records that
/// cannot be read are left out, and their number is logged.
///
/// A page token is a key in hexadecimal digits, because a key that cannot be read need not be text.
pub(crate) async fn list(store: &Store, request: &ListRequest) -> Result<LockPage, Failure> {
    let limit = request.limit.max(1);
    let after = request.after.as_ref().map_or(Ok(Vec::new()), key_of_token)?;
    let statement = Statement::read(&store.sql.list)
        .integer(GRACE_MS)
        .text(&request.prefix)
        .bytes(&after)
        .integer(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = store.connections.run(statement).await?.rows;
    let (mut locks, mut unreadable) = (Vec::with_capacity(rows.len()), 0_usize);
    for row in &rows {
        match record(row) {
            Ok(record) => locks.push(record),
            Err(Failure::Unreadable(_)) => unreadable += 1,
            Err(failure) => return Err(failure),
        }
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, "records that cannot be read are left out of a list of locks");
    }
    let last = rows.last().filter(|_| rows.len() >= limit);
    let next = last.and_then(|row| bytes(row, "lock_key")).map(|key| PageToken::new(digits(key)));
    Ok(LockPage { locks, next })
}

pub(crate) fn key_of_token(token: &PageToken) -> Result<Vec<u8>, Failure> {
    let byte = |pair: &[u8]| match from_utf8(pair) {
        Ok(pair) if pair.len() == 2 => u8::from_str_radix(pair, 16).ok(),
        _ => None,
    };
    let key = token.as_str().as_bytes().chunks(2).map(byte).collect::<Option<_>>();
    key.ok_or_else(|| Failure::Config("the page token is not one of this backend".to_owned()))
}

/// Ends every live grant of a key and its announcement, and returns the record: two round trips, or
/// more if the key changes hands between them. The grants that are ended are those that are
/// returned. A record that cannot be read is cleared except for its fence, and reported as such by
/// an error.
pub(crate) async fn force_release(
    store: &Store,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    loop {
        let statement = match &store.sql.sharing {
            Some(sql) => Statement::write(&sql.withdraw),
            None => Statement::read(&store.sql.lookup_by_key),
        };
        let statement = statement.text(key.as_str()).integer(GRACE_MS);
        let rows = store.connections.run(statement).await?.rows;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let record = match record(row) {
            Ok(record) => record,
            Err(Failure::Unreadable(what)) => match clear(store, key).await? {
                0 => continue,
                _ => return Err(Error::cleared(what).into()),
            },
            Err(failure) => return Err(failure),
        };
        let is_ended = match holders(row)? {
            Some(holders) => end_shared(store, row, &record, &holders).await?,
            None => end_exclusive(store, row).await?,
        };
        if is_ended {
            return Ok(Some(record));
        }
    }
}

/// Ends the grant of a row, by its id as it is stored, unless another grant was made since.
async fn end_exclusive(store: &Store, row: &MySqlRow) -> Result<bool, Failure> {
    let statement = Statement::write(&store.sql.release);
    let statement = statement.bytes(bytes(row, "lock_id").unwrap_or_default()).integer(GRACE_MS);
    Ok(store.connections.run_for(Priority::Release, statement).await?.changed > 0)
}

/// Ends the grants of a shared key and its announcement, unless another grant was made since.
async fn end_shared(
    store: &Store,
    row: &MySqlRow,
    record: &LockRecord,
    holders: &SharedHolders,
) -> Result<bool, Failure> {
    let member = |holder: &SharedHolder| format!("X'{}'", digits(&member_key(holder.lock_id)));
    let members: Vec<_> = holders.holders().iter().map(member).collect();
    let statement = Statement::write(&store.sql.sharing()?.force_release)
        .text(record.key.as_str())
        .bytes(bytes(row, "lock_id").unwrap_or_default())
        .digits(&value::<u64>(row, "fence")?.to_string())
        .digits(&members.join(", "));
    let ended = store.connections.run_for(Priority::Release, statement).await?.changed;
    Ok(ended > 0)
}

/// Clears the live grant of a key whose record cannot be read.
async fn clear(store: &Store, key: &LockKey) -> Result<u64, Failure> {
    let statement = Statement::write(&store.sql.force_clear).text(key.as_str()).integer(GRACE_MS);
    Ok(store.connections.run_for(Priority::Release, statement).await?.changed)
}
