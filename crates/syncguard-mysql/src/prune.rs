//! Removes rows that no one needs any more: all of them on an operator's request, and otherwise a
//! few at a time.

use std::time::Duration;

use syncguard_core::{Fence, LockId, pool::Pruning};

use crate::{error::Failure, row::GRACE_MS, statement::Statement, store::Store};

/// How long the tombstone of an abandoned id is kept, at least.
///
/// It must outlast an acquire that is still in flight. Linux delivers the pending data of a lost
/// connection, or discards it, 15 to 30 minutes after the first loss (`tcp_retries2`).
const MIN_TOMBSTONE_AGE: Duration = Duration::from_secs(60 * 60);

/// How many rows of a kind one statement prunes, so that no statement takes long.
const BATCH_SIZE: i64 = 1_000;

/// Clears the rows of grants that have been over for `older_than`, and returns the number of rows.
pub(crate) async fn prune(store: &Store, older_than: Duration) -> Result<u64, Failure> {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // A century is long enough, and leaves room for a subtraction.
    let older_than = millis(older_than).clamp(GRACE_MS, 100 * 366 * 24 * 3_600_000);
    let mut pruned = 0;
    loop {
        let statement = Statement::write(&store.sql.prune)
            .integer(older_than)
            .integer(older_than.max(millis(MIN_TOMBSTONE_AGE)))
            .integer(BATCH_SIZE);
        let changed = store.connections.run(statement).await?.changed;
        pruned += changed;
        if changed < BATCH_SIZE.unsigned_abs() {
            return Ok(pruned);
        }
    }
}

/// Prunes a few rows in the background, if it is [time to](Pruning), after all other operations
/// that wait for a connection.
///
/// It runs after a release, which does not wait for it, and never before a grant. Rows are kept for
/// as long as the tombstones of abandoned ids are.
pub(crate) fn prune_some(store: &Store, lock_id: LockId) {
    if let Some(from) = store.pruning.due(&lock_id) {
        prune_from(store, from);
    }
}

/// Prunes a few rows after a claim, of which most end without a release.
pub(crate) fn prune_after_claim(store: &Store, lock_id: LockId) {
    if let Some(from) = store.pruning.due_after_claim(&lock_id) {
        prune_from(store, from);
    }
}

fn prune_from(store: &Store, from: &str) {
    let statement = Statement::write(&store.sql.prune_some)
        .text(from)
        .integer(i64::try_from(MIN_TOMBSTONE_AGE.as_millis()).unwrap_or(i64::MAX))
        .integer(Pruning::BATCH)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX));
    let connections = store.connections.clone();
    store.connections.runtime.spawn(async move {
        if let Err(failure) = connections.run(statement).await {
            // Nothing depends on it, and the next pruning does what this one left.
            tracing::debug!(%failure, "nothing was pruned");
        }
    });
}
