//! Removing what no one needs any more, a little at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use syncguard_core::{Fence, LockId};

use crate::{backend::Store, operate::MARK, statement::Statement};

/// How many releases and abandons of a backend lie between two prunings.
const INTERVAL: u32 = 64;

/// How many rows one pruning looks at.
const BATCH: i64 = 64;

/// Counts releases and abandons of a backend, to prune at some of them.
#[derive(Debug, Default)]
pub(crate) struct Pruning(AtomicU32);

/// Prunes, if it is time to, in the background, and behind all other operations that want a connection.
///
/// It comes after a release, which does not wait for it, and never before a grant. The rows that it looks at
/// are those next to the id that was released. Ids are random, so that in time it comes across all. A row
/// that no other is below is found from the least id, where every second pruning begins. Rows stay for as long
/// as the marks of abandoned ids do.
pub(crate) fn prune(store: &Store, lock_id: LockId) {
    let count = store.pruning.0.fetch_add(1, Ordering::Relaxed) + 1;
    if !count.is_multiple_of(INTERVAL) {
        return;
    }
    let from = if count.is_multiple_of(2 * INTERVAL) { "" } else { lock_id.as_str() };
    let statement = Statement::write(&store.sql.prune_some)
        .text(from)
        .integer(i64::try_from(MARK.as_millis()).unwrap_or(i64::MAX))
        .integer(BATCH)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX));
    let connections = store.connections.clone();
    store.connections.runtime.spawn(async move {
        if let Err(failure) = connections.row(statement).await {
            // Nothing depends on it, and the next one does what this one left.
            tracing::debug!(%failure, "nothing was pruned");
        }
    });
}
