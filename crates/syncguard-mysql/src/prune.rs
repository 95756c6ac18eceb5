//! Removing what no one needs any more, a little at a time.

use syncguard_core::{Fence, LockId, pool::Pruning};

use crate::{operate::MARK, statement::Statement, store::Store};

/// Prunes, if it is [time to](Pruning), in the background, and behind all other operations that want a connection.
///
/// It comes after a release, which does not wait for it, and never before a grant. Rows stay for as long as the
/// marks of abandoned ids do.
pub(crate) fn prune(store: &Store, lock_id: LockId) {
    let Some(from) = store.pruning.due(&lock_id) else {
        return;
    };
    let statement = Statement::write(&store.sql.prune_some)
        .text(from)
        .integer(i64::try_from(MARK.as_millis()).unwrap_or(i64::MAX))
        .integer(Pruning::BATCH)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX));
    let connections = store.connections.clone();
    store.connections.runtime.spawn(async move {
        if let Err(failure) = connections.run(statement).await {
            // Nothing depends on it, and the next one does what this one left.
            tracing::debug!(%failure, "nothing was pruned");
        }
    });
}
