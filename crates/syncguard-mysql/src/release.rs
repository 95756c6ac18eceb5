//! Releasing locks and abandoning ids.

use syncguard_core::{LockId, ReleaseOutcome, backend::NotHeld, pool::Priority};

use crate::{
    error::Failure,
    names::tombstone_key,
    prune::prune_some,
    row::{GRACE_MS, value},
    statement::Statement,
    store::Store,
};

/// How many times to try to leave a tombstone while grants are made under the id. Each such grant
/// takes an acquire of its own, which is sent once.
const MAX_ATTEMPTS: usize = 16;

/// Ends a live grant.
pub(crate) async fn release(store: &Store, lock_id: LockId) -> Result<ReleaseOutcome, Failure> {
    let statement = Statement::write(&store.sql.release).text(lock_id.as_str()).integer(GRACE_MS);
    Ok(match store.connections.run_for(Priority::Release, statement).await?.changed {
        0 => ReleaseOutcome::NotHeld(NotHeld::Unknown),
        _ => {
            prune_some(store, lock_id);
            ReleaseOutcome::Released
        }
    })
}

/// Guarantees that no grant exists under the id, now or in the future.
///
/// **Invariant:** the unique index on the ids lets one row have the id, and an abandon is done when
/// that row is the tombstone, which is not a lock. A unique index sees what other transactions are
/// doing. Therefore, of an acquire and an abandon under one id, whichever finds the other's entry
/// waits for its commit:
///
/// - The acquire was first. The INSERT of the tombstone waits until the acquire is committed, finds
///   the id taken, and ends the grant of that row instead. The id is free then. Another attempt
///   leaves the tombstone, or ends the grant that was made under the id meanwhile.
/// - The tombstone was first. The acquire violates the index and is undone, together with its
///   fence, however late it arrives.
/// - Another id takes the row over, because this id's grant has expired. If the INSERT finds the
///   entry of the old id first, the takeover waits, and then finds a row that no one holds. If the
///   takeover is first, the INSERT waits until it is committed, and finds the id gone. If each
///   holds what the other needs, the entry or the row, the server undoes one of them, which is run
///   again.
///
/// Two abandons of one id leave one tombstone: the second finds it, and leaves it as it is.
pub(crate) async fn abandon(store: &Store, lock_id: LockId) -> Result<(), Failure> {
    let tombstone = tombstone_key(lock_id);
    for _ in 0..MAX_ATTEMPTS {
        let statement =
            Statement::write(&store.sql.abandon).text(lock_id.as_str()).bytes(&tombstone);
        if value::<i64>(
            &store.connections.row_for(Priority::Release, statement).await?,
            "tombstones",
        )? != 0
        {
            prune_some(store, lock_id);
            return Ok(());
        }
    }
    Err(Failure::NoTombstone)
}
