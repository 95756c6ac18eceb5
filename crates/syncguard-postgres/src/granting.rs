//! Reading what the acquires of both modes have in common.

use sqlx::postgres::PgRow;
use syncguard_core::{
    Holder, Timestamp,
    backend::{Capabilities, Grant},
};

use crate::{
    error::{DATA_ERRORS, Failure, NOT_NULL_VIOLATION, UNIQUE_VIOLATION},
    row::{fence, owner, timestamp, value},
};

/// Maps a violated constraint to its meaning. In both cases the whole statement was rolled back.
pub(crate) fn violation(failure: Failure) -> Failure {
    match failure.state() {
        // ON CONFLICT handles the other two unique indexes, so this is the index of the ids.
        Some(UNIQUE_VIOLATION) => Failure::Abandoned,
        // Of the values written, only the counter can be NULL: it is NULL if it would exceed its
        // limit or go back.
        Some(NOT_NULL_VIOLATION) => Failure::FenceLimit,
        _ => failure,
    }
}

/// Returns whether the server has rejected a statement because of what it wrote. If the statement
/// was sent for several requests, one of them may be the reason.
pub(crate) fn is_of_one_request(failure: &Failure) -> bool {
    failure.state().is_some_and(|state| DATA_ERRORS.iter().any(|class| state.starts_with(class)))
}

/// Reads the grant that was made.
pub(crate) fn read_grant(row: &PgRow) -> Result<Option<Grant>, Failure> {
    let granted = fence(row, "granted_fence");
    let Some(fence) = granted.map_err(|_| Failure::UnreadableAnswer("fence"))? else {
        return Ok(None);
    };
    Ok(Some(Grant { fence, expires_at: timestamp(row, "granted_expires_at_ms")? }))
}

/// Reads the grant of a key in exclusive mode, live or not.
pub(crate) fn exclusive_grant(row: &PgRow) -> Result<Grant, Failure> {
    let fence = fence(row, "fence")?.ok_or(Failure::Unreadable("fence"))?;
    Ok(Grant { fence, expires_at: timestamp(row, "expires_at_ms")? })
}

/// Describes the holder of a key in exclusive mode.
pub(crate) fn exclusive_holder(
    row: &PgRow,
    grant: Grant,
    now: Timestamp,
) -> Result<Holder, Failure> {
    let holder = Holder::new(grant, owner(row, "owner"), now, Capabilities::GRACE);
    Ok(if value(row, "notifies")? { holder } else { holder.silent() })
}
