//! Extending locks.

use syncguard_core::{
    LockId, Timestamp, Ttl,
    backend::{ExtendOutcome, NotHeld},
    pool::Priority,
};

use crate::{error::Failure, row::GRACE_MS, statement::Statement, store::Store};

/// Sets the expiry of a live grant to now plus `ttl`.
///
/// The one statement finds the row by the id; a hint would save nothing. The new expiry is returned
/// beside the number of rows, in place of the id of an inserted row.
pub(crate) async fn extend(
    store: &Store,
    lock_id: LockId,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let statement = Statement::write(&store.sql.extend)
        .text(lock_id.as_str())
        .integer(ttl.as_millis())
        .integer(GRACE_MS);
    let answer = store.connections.run_for(Priority::Extend, statement).await?;
    if answer.changed == 0 {
        return Ok(ExtendOutcome::NotHeld(NotHeld::Unknown));
    }
    let expires_at = i64::try_from(answer.last_insert_id)
        .map_err(|_| Failure::UnreadableAnswer("expires_at_ms"))?;
    Ok(ExtendOutcome::Extended { expires_at: Timestamp::from_unix_millis(expires_at) })
}
