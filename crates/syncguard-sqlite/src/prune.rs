//! Removing what no one needs any more, a little at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use syncguard_core::LockId;

use crate::{error::Failure, lookup::GRACE_MS, statement::Statement, store::Store, worker::Ticket};

/// How many releases and abandons of a backend lie between two prunings.
const INTERVAL: u32 = 64;

/// How many records one pruning looks at, and how many abandoned ids it forgets.
const BATCH: i64 = 64;

/// Counts releases and abandons of a backend, to prune at some of them.
#[derive(Debug, Default)]
pub(crate) struct Pruning(AtomicU32);

/// Prunes, if it is time to.
///
/// It comes after a release, which does not wait for the disk, and never before a grant. The records that it
/// looks at are those next to the id that was released. Ids are random, so that in time it comes across all.
/// An id that no other is below is found from the least id, where every second pruning begins.
pub(crate) async fn prune(store: &Store, ticket: &Ticket, lock_id: LockId) {
    let count = store.pruning.0.fetch_add(1, Ordering::Relaxed) + 1;
    if !count.is_multiple_of(INTERVAL) {
        return;
    }
    let from = if count.is_multiple_of(2 * INTERVAL) { "" } else { lock_id.as_str() };
    if let Err(failure) = some(store, ticket, from).await {
        // Nothing depends on it, and the next one does what this one left.
        tracing::debug!(%failure, "nothing was pruned");
    }
}

async fn some(store: &Store, ticket: &Ticket, from: &str) -> Result<(), Failure> {
    let expired = Statement::new(include_str!("sql/prune_expired.sql"));
    let expired = expired.text(from).integer(GRACE_MS).integer(BATCH);
    store.releaser.rows(expired, ticket).await?;
    let abandoned = Statement::new(include_str!("sql/prune_abandoned.sql"));
    store.releaser.rows(abandoned.integer(BATCH), ticket).await?;
    Ok(())
}
