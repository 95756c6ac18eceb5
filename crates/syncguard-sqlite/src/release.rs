//! Releasing locks and abandoning ids.

use std::time::Duration;

use syncguard_core::{
    LockId, LockKey, ReleaseOutcome,
    backend::{Effect, NotHeld},
};

use crate::{
    error::Failure, holder::Held, key_state::KeyState, prune::prune_some, row::GRACE_MS,
    statement::Statement, store::Store, worker::Ticket,
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
    let released = match store.releaser.row(statement, ticket).await {
        Ok(None) => release_shared(store, ticket, lock_id).await,
        released => released.map(|_| true),
    };
    match released {
        Ok(true) => {
            prune_some(store, ticket, lock_id).await;
            Ok(ReleaseOutcome::Released)
        }
        Err(failure) if !failure.ends_leases() => Err(failure),
        _ => Ok(ReleaseOutcome::NotHeld(NotHeld::Unknown)),
    }
}

/// Ends a live shared grant, and returns whether there was one. Fails if the id has a record that
/// cannot be read.
async fn release_shared(store: &Store, ticket: &Ticket, lock_id: LockId) -> Result<bool, Failure> {
    let release = |rows: &[_]| {
        let held = KeyState::shared_by(rows, lock_id)?;
        let released = held.is_some();
        Ok((held.map(|held| held.end()).unwrap_or_default(), released))
    };
    store.releaser.transact(KeyState::by_id(lock_id), release, ticket).await
}

/// Guarantees that no grant exists under the id, now or in the future, and removes its
/// announcement.
///
/// **Invariant:** the tombstone is committed together with the end of the grant and of the
/// announcement. SQLite puts all transactions that write in one order, and an acquire tests for the
/// tombstone in the one that grants or announces. What an acquire stored before the tombstone is
/// therefore visible here, and is ended; an acquire after the tombstone is refused. Apart from each
/// other, with the tombstone second, a grant could be made between the two.
///
/// If the id has a record that cannot be read, the tombstone is stored nevertheless.
///
/// It does not wait for the disk: after a power failure nothing is in flight any more.
pub(crate) async fn abandon(
    store: &Store,
    ticket: &Ticket,
    lock_id: LockId,
    key: &LockKey,
) -> Result<(), Failure> {
    let lifetime_ms = i64::try_from(TOMBSTONE_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let abandon = |rows: &[_]| {
        let tombstone = Statement::new(include_str!("sql/abandon_tombstone.sql"))
            .text(lock_id.as_str())
            .integer(lifetime_ms);
        let release =
            Statement::new(include_str!("sql/abandon_release.sql")).text(lock_id.as_str());
        let announcement = Statement::new(include_str!("sql/abandon_announcement.sql"))
            .text(lock_id.as_str())
            .text(key.as_str());
        let held = KeyState::shared_by(rows, lock_id);
        let shared = held.as_ref().ok().and_then(Option::as_ref).map(Held::end);
        let ends =
            [tombstone, release, announcement].into_iter().chain(shared.into_iter().flatten());
        Ok((ends.collect(), held.map(|_| ())))
    };
    let ended = store.releaser.transact(KeyState::by_id(lock_id), abandon, ticket).await?;
    ended.map_err(|failure| failure.after(Effect::MayHaveApplied))?;
    prune_some(store, ticket, lock_id).await;
    Ok(())
}
