//! Acquiring locks in shared mode, and announcing that a writer waits for one.

use std::time::Duration;

use syncguard_core::backend::{AcquireOutcome, AcquireRequest};

use crate::{error::Failure, names::StoredKey, shares::Share, statement::Statement, store::Store};

/// Grants the key in shared mode, or returns its holders: one call of a function, which is a
/// transaction by itself.
///
/// The function first looks at the key without a lock. If the request is refused, that is all. If
/// not, it waits for the advisory lock of the key, locks the key's row, and looks again. It then
/// decides and writes (see `schema_share.sql`). Unlike an exclusive acquire, it waits for the
/// advisory lock instead of trying it: others that have the lock are mostly holders that enter or
/// leave, and each of them may be granted. Whoever is refused after the wait has written nothing,
/// and no fence is lost.
///
/// Requests that arrive while a call for the key is in flight are sent together with the next one,
/// so that they are granted by one commit.
///
/// The database decides to grant. The rules by which it refuses are read here from what it saw, so
/// that [`SharedHolders`](syncguard_core::backend::SharedHolders) describes the refusal.
pub(crate) async fn share(
    store: &Store,
    request: &AcquireRequest,
    key: StoredKey,
) -> Result<AcquireOutcome, Failure> {
    if !store.sql.columns.has_shared_mode() {
        return Err(Failure::SharedMode);
    }
    let AcquireRequest { lock_id, ttl, mode, .. } = *request;
    let share = Share { lock_id, ttl, owner: request.owner.clone() };
    store.lanes.share(&store.connections, &store.sql, key, mode, share).await
}

/// Keeps new shared holders of the key out for `time`.
///
/// This is a second statement, sent only by a writer that shared holders have refused and that goes
/// on waiting. An attempt that is granted, or refused by another writer, does not pay for it. It
/// does not matter what happens in between. If the last holder leaves, the announcement keeps new
/// ones out until the writer, which is notified, tries again. If a new one enters, it is one of
/// those that the announcement does not affect.
pub(crate) async fn announce(
    store: &Store,
    request: &AcquireRequest,
    key: &StoredKey,
    time: Duration,
) -> Result<(), Failure> {
    let statement = Statement::write(&store.sql.announce)
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(MAX_ANNOUNCEMENT_MS))
        .multi_statement();
    store.connections.row(statement).await.map(drop)
}

/// The longest announcement, which leaves room for an addition: a hundred years.
const MAX_ANNOUNCEMENT_MS: i64 = 100 * 366 * 24 * 3_600_000;
