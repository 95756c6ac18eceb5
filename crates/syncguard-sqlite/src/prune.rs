//! Removes records that no one needs any more, a few at a time.

use syncguard_core::{LockId, pool::Pruning};

use crate::{error::Failure, row::GRACE_MS, statement::Statement, store::Store, worker::Ticket};

/// Prunes a few records, if it is [time to](Pruning).
///
/// It runs after a release, which does not wait for the disk, and never before a grant.
pub(crate) async fn prune_some(store: &Store, ticket: &Ticket, lock_id: LockId) {
    if let Some(from) = store.pruning.due(&lock_id) {
        prune_from(store, ticket, from).await;
    }
}

/// Prunes a few records after a claim, of which most end without a release.
pub(crate) async fn prune_after_claim(store: &Store, ticket: &Ticket, lock_id: LockId) {
    if let Some(from) = store.pruning.due_after_claim(&lock_id) {
        prune_from(store, ticket, from).await;
    }
}

async fn prune_from(store: &Store, ticket: &Ticket, from: &str) {
    if let Err(failure) = prune_batch(store, ticket, from).await {
        // Nothing depends on it, and the next pruning does what this one left.
        tracing::debug!(%failure, "nothing was pruned");
    }
}

async fn prune_batch(store: &Store, ticket: &Ticket, from: &str) -> Result<(), Failure> {
    let expired = Statement::new(include_str!("sql/prune_expired.sql"));
    let expired = expired.text(from).integer(GRACE_MS).integer(Pruning::BATCH);
    store.releaser.rows(expired, ticket).await?;
    let holders = Statement::new(include_str!("sql/prune_holders.sql"));
    store.releaser.rows(holders.text(from).integer(Pruning::BATCH), ticket).await?;
    let announcements = Statement::new(include_str!("sql/prune_announcements.sql"));
    store.releaser.rows(announcements.integer(Pruning::BATCH), ticket).await?;
    let abandoned = Statement::new(include_str!("sql/prune_abandoned.sql"));
    store.releaser.rows(abandoned.integer(Pruning::BATCH), ticket).await?;
    Ok(())
}
