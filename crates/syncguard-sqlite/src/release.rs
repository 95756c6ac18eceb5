//! Releasing locks and abandoning ids.

use std::time::Duration;

use syncguard_core::{
    LockId, ReleaseOutcome,
    backend::{Effect, NotHeld},
};

use crate::{
    error::Failure, lookup::why_not_held, prune::prune_some, row::GRACE_MS, statement::Statement,
    store::Store, worker::Ticket,
};

/// How long the tombstone of an abandoned id is kept.
///
/// It must outlast an acquire that is still in flight. Once begun, an acquire reads and writes at
/// most four times, and each time waits for at most twice the busy timeout, which is at most an
/// hour: for its turn in this process, and for the database. That is 16 hours; the rest is margin
/// for machines that sleep meanwhile.
const TOMBSTONE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Ends a live grant.
///
/// It does not wait for the disk. A power failure may restore the grant, for at most its ttl; the
/// fence never goes back, because a grant does wait for the disk.
pub(crate) async fn release(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
) -> Result<ReleaseOutcome, Failure> {
    let statement =
        Statement::new(include_str!("sql/release.sql")).text(lock_id.as_str()).integer(GRACE_MS);
    match store.releaser.row(statement, ticket).await {
        Ok(Some(_)) => {
            prune_some(store, ticket, lock_id).await;
            Ok(ReleaseOutcome::Released)
        }
        Ok(None) => why_not_held(store, ticket, lock_id).await.map(ReleaseOutcome::NotHeld),
        Err(failure) if !failure.ends_leases() => Err(failure),
        Err(_) => Ok(ReleaseOutcome::NotHeld(NotHeld::Unknown)),
    }
}

/// Guarantees that no grant exists under the id, now or in the future.
///
/// **Invariant:** the tombstone is committed before the release begins. SQLite puts all writes in
/// one order, and an acquire tests for the tombstone in the statement that grants. An acquire
/// before the tombstone is therefore visible to the release, which ends it; an acquire after the
/// tombstone is refused. In the other order, a grant could be made between the two. If the abandon
/// is interrupted between the two, no new grant can be made under the id, and the retry that is due
/// ends the one it has.
///
/// Neither write waits for the disk: after a power failure nothing is in flight any more.
pub(crate) async fn abandon(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
) -> Result<(), Failure> {
    let lifetime_ms = i64::try_from(TOMBSTONE_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let tombstone = Statement::new(include_str!("sql/abandon_tombstone.sql"));
    store.releaser.rows(tombstone.text(lock_id.as_str()).integer(lifetime_ms), ticket).await?;
    let release = Statement::new(include_str!("sql/abandon_release.sql"));
    store.releaser.rows(release.text(lock_id.as_str()), ticket).await?;
    let nothing = why_not_held(store, ticket, lock_id).await;
    nothing.map_err(|failure| failure.after(Effect::MayHaveApplied))?;
    prune_some(store, ticket, lock_id).await;
    Ok(())
}
