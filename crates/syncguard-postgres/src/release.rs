//! Releasing locks and abandoning ids.

use syncguard_core::{
    LockId, LockKey, ReleaseOutcome,
    backend::{LockRef, Mode, NotHeld},
    pool::Priority,
};

use crate::{
    error::{Failure, UNIQUE_VIOLATION},
    leaves::release_statement,
    names::{StoredKey, WAITER_CLASS, tombstone_key},
    prune::prune_some,
    row::{GRACE_MS, value},
    statement::Statement,
    store::Store,
};

/// How many times to try to leave a tombstone for an id that others are abandoning at the same
/// time.
const MAX_ATTEMPTS: usize = 4;

/// Ends a live grant, in either mode.
///
/// The statement deletes the row of an exclusive grant. Only if the id has none does it call the
/// function that ends a shared grant (see `schema_leave.sql`), in the same round trip.
///
/// If the holder takes the grant for a shared one of a key, releases that arrive while an earlier
/// request for the key is in flight are sent together, in a call of that function. If the holder is
/// wrong, its release is sent once more, by the id alone.
///
/// It does not wait for the disk. A crash of the server may restore the grant, for at most its ttl:
/// the holder then keeps until the end what it released early, and no one else holds the key
/// meanwhile. The fence never goes back, because a grant does wait for the disk, and with it all
/// that was committed before.
pub(crate) async fn release(store: &Store, lock: &LockRef) -> Result<ReleaseOutcome, Failure> {
    let key = lock.key.as_ref().and_then(|key| StoredKey::of(key).ok()).map(|stored| stored.key);
    let is_shared = store.sql.columns.has_shared_mode() && lock.mode.is_some_and(Mode::is_shared);
    let released = match &key {
        Some(key) if is_shared => {
            let Store { lanes, connections, sql, channel, .. } = store;
            lanes.leave(connections, sql, channel, key, lock.lock_id).await?
        }
        _ => {
            let statement = release_statement(&store.sql.release, lock.lock_id, &store.channel);
            value(&store.connections.row_for(Priority::Release, statement).await?, "released")?
        }
    };
    if let Some(key) = &key {
        store.holder_cache.forget(key);
    }
    Ok(match released {
        true => {
            prune_some(store, lock.lock_id);
            ReleaseOutcome::Released
        }
        false => ReleaseOutcome::NotHeld(NotHeld::Unknown),
    })
}

/// Guarantees that no grant exists under the id, now or in the future.
///
/// **Invariant:** the unique index on the ids lets one row have the id, and an abandon leaves a row
/// with that id that is not a lock. A unique index sees what other transactions are doing, whatever
/// the snapshot of a statement. Therefore, of an acquire and an abandon under one id, whichever
/// finds the other's entry waits for its commit:
///
/// - The acquire was first, by a new row or by taking over an expired one. The abandon waits until
///   the acquire is committed, finds the row and moves it away from the key. If the acquire is
///   rolled back instead, the abandon leaves the tombstone.
/// - The abandon was first. The acquire violates the index and is rolled back, together with its
///   fence, however late it arrives.
/// - Another id takes the row over, because this id's grant has expired. The abandon waits for
///   that, finds that no row has the id any more, and leaves the tombstone. If the abandon is
///   first, the acquire of the other id finds that the row has left the key, and makes a new one.
///   The same applies to a peer that upserts without a condition.
///
/// No two of them wait for each other. An abandon first takes the advisory lock of the key, which an
/// acquire of the same id and key needs before it writes. Once the abandon has it, no such acquire
/// is half-way. An extend or an exclusive release that it may still wait for at the row of the id
/// waits for nothing.
///
/// # Shared mode
///
/// The row of a shared grant is the member; the row of the key, the head, contains the grant as
/// well. An abandon ends both under the advisory lock, the head before the member, and only then
/// leaves the tombstone (see `schema_leave.sql`). The advisory lock must come first: an abandon that
/// left the tombstone and then waited for the advisory lock would deadlock with an acquire of the id
/// that has that lock and the head, and waits for the tombstone to insert the member.
///
/// - The acquire was first. The abandon waits for the advisory lock until the acquire is committed,
///   sees the member and the holder, and removes both.
/// - The abandon was first. The acquire finds the tombstone, or violates the index if it looked
///   before, and is rolled back.
///
/// An acquire may be written together with others of its key. The abandon of one of their ids waits
/// for all of them, or the violation of the index rolls all of them back and each is sent alone. No
/// other wait is added: the others of the batch have nothing that the abandon needs, and of what
/// they wait for, the abandon has at most the entry of its id, which it keeps only until its commit
/// (see `schema_share.sql`).
///
/// An announcement of the id is removed in the same way. One that is still in flight finds the
/// tombstone under the advisory lock, and is not made.
///
/// If the tables have no shared mode, the abandon takes no advisory lock and needs none: an acquire
/// or an extend that waits for it holds the advisory lock of its key and the row of its counter, and
/// the abandon needs neither.
///
/// Two abandons of one id may both find nothing and then violate the primary key with the same
/// tombstone. The second is run again, and finds what the first has left.
///
/// It waits for the disk, because a pooler might keep a request through a crash of the server that
/// undoes the tombstone.
pub(crate) async fn abandon(store: &Store, lock_id: LockId, key: &LockKey) -> Result<(), Failure> {
    let (key, tombstone) = (StoredKey::of(key)?.key, tombstone_key(lock_id));
    let statement = || {
        Statement::write(&store.sql.abandon)
            .text(lock_id.as_str())
            .text(&tombstone)
            .text(&key)
            .text(&store.channel)
            .short(WAITER_CLASS)
            .integer(GRACE_MS)
    };
    for _ in 1..MAX_ATTEMPTS {
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
