//! Extending.

use sqlx::Row;
use syncguard_core::{ExtendOutcome, LockId, NotHeld, Timestamp, Ttl, pool::Priority};

use crate::{backend::Store, error::Failure, lookup::GRACE_MS, statement::Statement};

/// Sets the expiry of a live grant to now plus `ttl`.
///
/// The id leads to the row, and the row to its key, in the one statement; a hint would save nothing.
pub(crate) async fn extend(
    store: &Store,
    lock_id: LockId,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let statement = Statement::write(&store.sql.extend)
        .text(lock_id.as_str())
        .integer(ttl.as_millis())
        .integer(GRACE_MS);
    let row = store.connections.row_for(Priority::Extend, statement).await?;
    let expires_at: Option<i64> =
        row.try_get("expires_at_ms").map_err(|_| Failure::Unreadable("expires_at_ms"))?;
    Ok(match expires_at.map(Timestamp::from_unix_millis) {
        Some(expires_at) => ExtendOutcome::Extended { expires_at },
        None => ExtendOutcome::NotHeld(NotHeld::Unknown),
    })
}
