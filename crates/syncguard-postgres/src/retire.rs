//! Retiring fence counters.

use syncguard_core::backend::{PageToken, RetirePage, RetireRequest};

use crate::{
    error::Failure,
    row::{text, value},
    statement::Statement,
    store::Store,
};

/// Retires some counters, in the order of their keys: one statement, which is a transaction by
/// itself.
///
/// The text is sent with its values and planned with them. The plan of a prepared statement is for any
/// limit, and reads the whole table for each step.
///
/// The page token is the key of the last counter that was examined.
pub(crate) async fn retire_counters(
    store: &Store,
    request: &RetireRequest,
) -> Result<RetirePage, Failure> {
    let statement = Statement::write(&store.sql.retire)
        .text(request.after.as_ref().map_or("", PageToken::as_str))
        .integer(request.unused_for_millis())
        .integer(i64::try_from(RetireRequest::MIN_FENCE).unwrap_or(i64::MAX))
        .integer(i64::try_from(request.limit).unwrap_or(i64::MAX))
        .multi_statement();
    let row = store.connections.row(statement).await?;
    let retired: i64 = value(&row, "retired")?;
    let next = text(&row, "last").map(PageToken::new);
    Ok(RetirePage { retired: u64::try_from(retired).unwrap_or_default(), next })
}
