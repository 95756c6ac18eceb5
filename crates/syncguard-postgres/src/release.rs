//! Releasing and abandoning.

use syncguard_core::{LockId, LockKey, LockRef, NotHeld, ReleaseOutcome, pool::Priority};

use crate::{
    error::{Failure, UNIQUE_VIOLATION},
    names::{StoredKey, WAITER_CLASS, mark},
    prune::prune_some,
    row::{GRACE_MS, value},
    statement::Statement,
    store::Store,
};

/// How often to mark an id that others are marking at the same time.
const ROUNDS: usize = 4;

/// Ends a live grant.
///
/// It does not wait for the disk. A crash of the server may bring the grant back, for no longer than
/// its ttl: what the holder gave up early it then has until the end, and nobody else has it
/// meanwhile. The fence never goes back, because a grant does wait, and takes along what was committed
/// before it.
pub(crate) async fn release(store: &Store, lock: &LockRef) -> Result<ReleaseOutcome, Failure> {
    let statement = Statement::write(&store.sql.release)
        .text(lock.lock_id.as_str())
        .integer(GRACE_MS)
        .text(&store.channel)
        .short(WAITER_CLASS);
    let row = store.connections.row_for(Priority::Release, statement).await?;
    if let Some(Ok(stored)) = lock.key.as_ref().map(StoredKey::of) {
        store.sightings.forget(&stored.key);
    }
    Ok(match value(&row, "released")? {
        true => {
            prune_some(store, lock.lock_id);
            ReleaseOutcome::Released
        }
        false => ReleaseOutcome::NotHeld(NotHeld::Unknown),
    })
}

/// Makes sure that no grant under the id exists now or later.
///
/// **Invariant:** the unique index on the ids lets one row have the id, and the abandoning leaves with
/// it a row that is nobody's lock. A unique index sees what other transactions are doing, whatever the
/// snapshot of a statement. So of an acquire and an abandoning under one id, whichever meets the
/// other's entry waits for its commit:
///
/// - The acquire was first, by a new row or by taking over one that had expired. The abandoning
///   waits until it is committed, finds the row and moves it away from the key. If it is rolled
///   back instead, the abandoning leaves the mark.
/// - The abandoning was first. The acquire violates the index and is rolled back, together with its
///   fence, however late it arrives.
/// - Another id takes the row over, because this one's grant has expired: the abandoning waits for
///   that, finds that no row has the id any more, and leaves the mark. The other way round, the
///   acquire of the other id finds that the row has left the key, and makes a new one. The same
///   goes for a peer that upserts without a condition.
///
/// No two of them wait for each other. An abandoning waits only before it has written anything. An
/// acquire or an extend that waits for it holds the advisory lock of its key and the row of its
/// counter, of which an abandoning wants neither. Therefore it also need not queue for the
/// advisory lock, which would order it behind the requests that the server is working on, but not
/// behind those that are still in the network.
///
/// Two abandonings of one id may both find nothing and then violate the primary key by the same mark.
/// Run again, the second finds what the first has left.
///
/// It waits for the disk: a pooler might keep a request through a crash of the server that takes the mark
/// back.
pub(crate) async fn abandon(store: &Store, lock_id: LockId, key: &LockKey) -> Result<(), Failure> {
    let (key, mark) = (StoredKey::of(key)?.key, mark(lock_id));
    let statement = || {
        Statement::write(&store.sql.abandon)
            .text(lock_id.as_str())
            .text(&mark)
            .text(&key)
            .text(&store.channel)
            .short(WAITER_CLASS)
    };
    for _ in 1..ROUNDS {
        match store.connections.row_for(Priority::Release, statement()).await {
            Err(failure) if failure.state() == Some(UNIQUE_VIOLATION) => {}
            done => {
                prune_some(store, lock_id);
                return done.map(drop);
            }
        }
    }
    store.connections.row_for(Priority::Release, statement()).await.map(drop)
}
