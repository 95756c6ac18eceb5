//! Extending locks.

use syncguard_core::{
    Ttl,
    backend::{ExtendOutcome, LockRef},
};
use tokio::time::Instant;

use crate::{batch::answered, error::Failure, extends::Extend, store::Store};

/// Sets the expiry of a live grant to now plus `ttl`, in either mode.
///
/// The one statement finds the row by the id, and the key by the row; a hint would save nothing. If
/// the row is not that of an exclusive grant, the statement calls the function that extends a shared
/// one (see `schema_extend.sql`).
/// Extends that wait for a connection are sent together, in the order in which their grants end.
pub(crate) async fn extend(
    store: &Store,
    lock: &LockRef,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let time_left = lock.time_left.unwrap_or_default().min(Ttl::MAX.as_duration());
    let needed_by = Instant::now() + time_left;
    let extend = Extend { lock_id: lock.lock_id, ttl };
    answered(store.extends.send(needed_by, extend).await)
}
