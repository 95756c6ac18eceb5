//! Releasing and abandoning.

use syncguard_core::{LockId, NotHeld, ReleaseOutcome, pool::Priority};

use crate::{
    error::Failure,
    names::mark,
    prune::prune_some,
    row::{GRACE_MS, value},
    statement::Statement,
    store::Store,
};

/// How often to leave a mark where grants under the id are made all the time. Each of them takes an
/// acquire of its own, which is sent once.
const ROUNDS: usize = 16;

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

/// Makes sure that no grant under the id exists now or later.
///
/// **Invariant:** the unique index on the ids lets one row have the id, and the abandoning is done when
/// that is the mark: a row that is nobody's lock. A unique index sees what other transactions are
/// doing. So of an acquire and an abandoning under one id, whichever meets the other's entry waits for
/// its commit:
///
/// - The acquire was first. The INSERT of the mark waits until it is committed, finds the id taken,
///   and ends the grant of that row instead. The id is free then, so the mark is made in another
///   round, or whatever was granted under the id meanwhile is ended in its turn.
/// - The mark was first. The acquire violates the index and is undone, together with its fence,
///   however late it arrives.
/// - Another id takes the row over, because this one's grant has expired. If the INSERT meets the entry
///   of the old id first, the taking over waits, and then finds a row that nobody holds. If the
///   taking over is first, the INSERT waits until it is committed, and finds the id gone. Where each
///   has what the other wants, the entry or the row, the server undoes one of them, which is run
///   again.
///
/// Two abandonings of one id leave one mark: the second finds it, and leaves it as it is.
pub(crate) async fn abandon(store: &Store, lock_id: LockId) -> Result<(), Failure> {
    let mark = mark(lock_id);
    for _ in 0..ROUNDS {
        let statement = Statement::write(&store.sql.abandon).text(lock_id.as_str()).bytes(&mark);
        if value::<i64>(&store.connections.row_for(Priority::Release, statement).await?, "marked")?
            != 0
        {
            prune_some(store, lock_id);
            return Ok(());
        }
    }
    Err(Failure::Unmarked)
}
