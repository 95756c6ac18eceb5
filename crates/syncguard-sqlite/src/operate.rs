//! Operations for operators.

use syncguard_core::{
    Error, LockKey,
    backend::{ListRequest, LockPage, LockQuery, LockRecord, PageToken},
};

use crate::{
    error::Failure,
    lookup::lookup,
    row::{GRACE_MS, record},
    statement::Statement,
    store::Store,
    worker::Ticket,
};

/// The maximum number of attempts to end a grant that changes between the read and the write.
const MAX_ATTEMPTS: usize = 16;

/// Returns the live locks whose keys begin with a prefix, in the order of their keys.
pub(crate) async fn list(
    store: &Store,
    ticket: &Ticket,
    request: &ListRequest,
) -> Result<LockPage, Failure> {
    let limit = request.limit.max(1);
    let statement = Statement::new(include_str!("sql/list.sql"))
        .integer(GRACE_MS)
        .text(&request.prefix)
        .text_or_null(prefix_upper_bound(&request.prefix).as_deref())
        .text_or_null(request.after.as_ref().map(PageToken::as_str))
        .integer(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = store.reader.rows(statement, ticket).await?;
    let locks: Vec<LockRecord> = rows.iter().map(record).collect::<Result<_, _>>()?;
    let last = locks.last().filter(|_| locks.len() >= limit);
    let next = last.map(|lock| PageToken::new(lock.key.as_str()));
    Ok(LockPage { locks, next })
}

/// Returns the first text, by its bytes, after all texts that begin with `prefix`, or `None` if no
/// text is. The bytes of UTF-8 sort as the characters do.
fn prefix_upper_bound(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// Ends the live grant of a key and returns its record. A record that cannot be read is cleared,
/// and reported as such by an error.
///
/// SQLite's `RETURNING` returns the new content of a row, not the old. Therefore the grant is read
/// first, and ended if it is still what was read.
pub(crate) async fn force_release(
    store: &Store,
    ticket: &Ticket,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let query = LockQuery::ByKey(key.clone());
    for _ in 0..MAX_ATTEMPTS {
        let record = match lookup(store, ticket, &query).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(Failure::Unreadable(what)) => return clear(store, ticket, key, what).await,
            Err(failure) => return Err(failure),
        };
        let statement = Statement::new(include_str!("sql/force_release.sql"))
            .text(key.as_str())
            .text(record.lock_id.as_str())
            .integer(record.expires_at.unix_millis());
        if store.writer.row(statement, ticket).await?.is_some() {
            return Ok(Some(record));
        }
    }
    Err(Failure::Restless)
}

/// Clears the record of a key, of which `what` could not be read.
async fn clear(
    store: &Store,
    ticket: &Ticket,
    key: &LockKey,
    what: &'static str,
) -> Result<Option<LockRecord>, Failure> {
    let statement = Statement::new(include_str!("sql/force_clear.sql")).text(key.as_str());
    match store.writer.row(statement, ticket).await? {
        Some(_) => Err(Error::cleared(what).into()),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_upper_bound;

    #[test]
    fn the_upper_bound_of_a_prefix_is_above_all_texts_that_begin_with_it() {
        assert_eq!(prefix_upper_bound(""), None);
        assert_eq!(prefix_upper_bound("a%").as_deref(), Some("a&"));
        assert_eq!(prefix_upper_bound("a\0").as_deref(), Some("a\u{1}"));
        assert_eq!(
            prefix_upper_bound("a\u{d7ff}").as_deref(),
            Some("a\u{e000}"),
            "no surrogate in between"
        );
        assert_eq!(prefix_upper_bound("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(prefix_upper_bound("\u{10ffff}\u{10ffff}"), None);
    }
}
