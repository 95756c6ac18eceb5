//! Retiring fence counters.

use syncguard_core::backend::{PageToken, RetirePage, RetireRequest};

use crate::{
    error::Failure,
    operate::key_of_token,
    row::{bytes, value},
    statement::{Statement, digits},
    store::Store,
};

/// Retires some counters, in the order of their keys: one round trip.
///
/// A page token is the last key that was examined, as in a list.
pub(crate) async fn retire_counters(
    store: &Store,
    request: &RetireRequest,
) -> Result<RetirePage, Failure> {
    let after = request.after.as_ref().map_or(Ok(Vec::new()), key_of_token)?;
    let statement = Statement::write(&store.sql.retire)
        .bytes(&after)
        .integer(request.unused_for_millis())
        .integer(i64::try_from(RetireRequest::MIN_FENCE).unwrap_or(i64::MAX))
        .integer(i64::try_from(request.limit).unwrap_or(i64::MAX));
    let row = store.connections.row(statement).await?;
    let retired = u64::try_from(value::<i64>(&row, "retired")?).unwrap_or_default();
    let next = bytes(&row, "last").map(|key| PageToken::new(digits(key)));
    Ok(RetirePage { retired, next })
}
