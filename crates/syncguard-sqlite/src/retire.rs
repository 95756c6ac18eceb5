//! Retiring fence counters.

use syncguard_core::backend::{PageToken, RetirePage, RetireRequest};

use crate::{error::Failure, row::text, statement::Statement, store::Store, worker::Ticket};

/// Retires some counters, in the order of their keys. A step takes the write lock once, and lets
/// others have it between the steps.
///
/// The page token is the last key that was examined. The second statement alone decides on each key.
pub(crate) async fn retire_counters(
    store: &Store,
    ticket: &Ticket,
    request: &RetireRequest,
) -> Result<RetirePage, Failure> {
    let after = request.after.as_ref().map_or("", PageToken::as_str);
    let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
    let page = Statement::new(include_str!("sql/retire_page.sql")).text(after).integer(limit);
    let rows = store.reader.rows(page, ticket).await?;
    let Some(last) = rows.first().and_then(|row| text(row, "last")) else {
        return Ok(RetirePage::default());
    };
    let retire = Statement::new(include_str!("sql/retire.sql"))
        .text(after)
        .text(last)
        .integer(request.unused_for_millis())
        .integer(i64::try_from(RetireRequest::MIN_FENCE).unwrap_or(i64::MAX));
    let retired = store.releaser.rows(retire, ticket).await?;
    let retired = u64::try_from(retired.len()).unwrap_or(u64::MAX);
    Ok(RetirePage { retired, next: Some(PageToken::new(last)) })
}
