//! Releasing locks and abandoning ids.

use syncguard_core::{LockId, LockKey, ReleaseOutcome, backend::NotHeld, pool::Priority};

use crate::{
    error::Failure,
    lookup::on_shared_key,
    names::tombstone_key,
    prune::prune_some,
    row::{GRACE_MS, bytes, value},
    sql::SharingSql,
    statement::Statement,
    store::Store,
};

/// How many times to try to leave a tombstone while grants are made under the id. Each such grant
/// takes an acquire of its own, which is sent once.
const MAX_ATTEMPTS: usize = 16;

/// How many expired grants one request removes from a head, at most.
const MAX_EXPIRED: usize = 8;

/// Which grants in shared mode a statement ends.
#[derive(Clone, Copy)]
enum Ended {
    Expired = 0,
    Live = 1,
}

/// Ends a live grant.
pub(crate) async fn release(store: &Store, lock_id: LockId) -> Result<ReleaseOutcome, Failure> {
    let mut is_released = false;
    if store.readers.key(lock_id).is_none() {
        let statement =
            Statement::write(&store.sql.release).text(lock_id.as_str()).integer(GRACE_MS);
        is_released = store.connections.run_for(Priority::Release, statement).await?.changed > 0;
    }
    if !is_released {
        let leave = |sql: &SharingSql, key: &LockKey| leave(sql, lock_id, key, Ended::Live);
        let left = on_shared_key(store, lock_id, Priority::Release, leave).await?;
        store.readers.remove(lock_id);
        is_released = left.is_some();
    }
    if !is_released {
        return Ok(ReleaseOutcome::NotHeld(NotHeld::Unknown));
    }
    prune_some(store, lock_id);
    Ok(ReleaseOutcome::Released)
}

fn leave(sql: &SharingSql, lock_id: LockId, key: &LockKey, ended: Ended) -> Statement {
    Statement::write(&sql.leave)
        .text(lock_id.as_str())
        .text(key.as_str())
        .integer(GRACE_MS)
        .integer(ended as i64)
}

/// Removes a few grants that have expired from a shared key, in the background, after all other
/// operations that wait for a connection. Otherwise the head of a key that is never free would
/// keep every holder that was not released.
pub(crate) fn remove_expired(
    store: &Store,
    key: &LockKey,
    expired: impl IntoIterator<Item = LockId>,
) {
    let Some(sql) = &store.sql.sharing else { return };
    for lock_id in expired.into_iter().take(MAX_EXPIRED) {
        let statement = leave(sql, lock_id, key, Ended::Expired);
        let connections = store.connections.clone();
        store.readers.remove(lock_id);
        store.connections.runtime.spawn(async move {
            if let Err(failure) = connections.run(statement).await {
                // Nothing depends on it, and the next request does what this one left.
                tracing::debug!(%failure, "an expired holder was not removed");
            }
        });
    }
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
/// - The id has a grant in shared mode. The INSERT frees the id of its member, and further statements
///   remove the id from the head and then delete the member. Until then, the member keeps its id from
///   being granted again, and the abandon is not done: it looks for the member after it has left the
///   tombstone, so that it finds one that another abandon has freed. The row of the key is locked
///   only then.
/// - Another id takes the row over, because this id's grant has expired. If the INSERT finds the
///   entry of the old id first, the takeover waits, and then finds a row that no one holds. If the
///   takeover is first, the INSERT waits until it is committed, and finds the id gone. If each
///   holds what the other needs, the entry or the row, the server undoes one of them, which is run
///   again.
///
/// Two abandons of one id leave one tombstone: the second finds it, and leaves it as it is.
pub(crate) async fn abandon(store: &Store, lock_id: LockId, key: &LockKey) -> Result<(), Failure> {
    let (tombstone, mut key) = (tombstone_key(lock_id), key.as_str().as_bytes().to_vec());
    store.readers.remove(lock_id);
    for _ in 0..MAX_ATTEMPTS {
        let statement = Statement::write(&store.sql.abandon)
            .text(lock_id.as_str())
            .bytes(&tombstone)
            .bytes(&key);
        let row = store.connections.row_for(Priority::Release, statement).await?;
        match bytes(&row, "member_of") {
            Some(shared) => {
                key = shared.to_vec();
                let statement = Statement::write(&store.sql.sharing()?.abandon);
                let statement = statement.text(lock_id.as_str()).bytes(&key);
                store.connections.run_for(Priority::Release, statement).await?;
            }
            None if value::<i64>(&row, "done")? == 0 => {}
            None => {
                prune_some(store, lock_id);
                return Ok(());
            }
        }
    }
    Err(Failure::NoTombstone)
}
