//! Operations for operators.

use syncguard_core::{
    Error, LockKey,
    backend::{ListRequest, LockPage, LockRecord, PageToken},
};

use crate::{
    error::Failure,
    key_state::KeyState,
    row::{GRACE_MS, text},
    statement::Statement,
    store::Store,
    worker::Ticket,
};

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
    let keys: Vec<_> = rows.chunk_by(|row, next| text(row, "key") == text(next, "key")).collect();
    let locks = keys.iter().map(|rows| Ok(KeyState::read(rows)?.record()));
    let locks: Vec<Option<LockRecord>> = locks.collect::<Result<_, Failure>>()?;
    let last = keys.last().filter(|_| keys.len() >= limit).and_then(|rows| text(&rows[0], "key"));
    Ok(LockPage { next: last.map(PageToken::new), locks: locks.into_iter().flatten().collect() })
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

/// Ends every live grant of a key and its announcement, and returns its record. A record that cannot
/// be read is cleared, and reported as such by an error.
pub(crate) async fn force_release(
    store: &Store,
    ticket: &Ticket,
    key: &LockKey,
) -> Result<Option<LockRecord>, Failure> {
    let end = |rows: &[_]| {
        let (ended, record) = match KeyState::read(rows) {
            Ok(state) => (state.is_taken(), Ok(state.record())),
            Err(Failure::Unreadable(what)) => (true, Err(Error::cleared(what).into())),
            Err(failure) => return Err(failure),
        };
        let end = Statement::new(include_str!("sql/force_release.sql")).text(key.as_str());
        Ok((Some(end).filter(|_| ended).into_iter().collect(), record))
    };
    store.writer.transact(KeyState::by_key(key, None), end, ticket).await?
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
