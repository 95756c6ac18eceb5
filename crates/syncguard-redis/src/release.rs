//! The release and abandon operations.

use syncguard_core::{
    LockId, LockKey, ReleaseOutcome,
    backend::{LockRef, Mode, NotHeld},
};

use crate::{
    client::Reply,
    error::Failure,
    index::{find, forget},
    names::LockName,
    record::head,
    script::{ABANDON, RELEASE, reply},
    store::Store,
};

const RELEASED: i64 = 1;

/// How long the tombstone of an abandoned id is kept.
///
/// It must outlast an acquire that is still in flight. Once the tombstone is written, the client
/// runs and has a connection, so whatever its kernel still holds of an older one is delivered or
/// given up: Linux does so 15 to 30 minutes after the first loss (`tcp_retries2`). A tombstone
/// takes some 130 bytes, and is left only if the outcome of an acquire was unknown.
const TOMBSTONE_MS: &str = "3600000";

/// Ends the grant: one round trip if the key is known, two if only the id is.
pub(crate) async fn release(store: &Store, lock: &LockRef) -> Result<ReleaseOutcome, Failure> {
    let hinted = lock.key.as_ref().map(|key| store.layout.lock(key)).transpose()?;
    if let Some(name) = &hinted {
        let outcome = release_lock(store, name, lock.lock_id, lock.mode).await?;
        if outcome != ReleaseOutcome::NotHeld(NotHeld::NotFound) {
            return Ok(outcome);
        }
    }
    // Either the hint was wrong or the lock is gone; the index shows which.
    match find(store, lock.lock_id).await? {
        Some(name) if Some(&name) != hinted.as_ref() => {
            release_lock(store, &name, lock.lock_id, lock.mode).await
        }
        _ => Ok(ReleaseOutcome::NotHeld(NotHeld::NotFound)),
    }
}

/// Ends the grant of an id if the id holds the lock. The first waiters in line are notified.
///
/// A release of an exclusive lock does not need the shared holders. If the mode is wrong, it is sent
/// again with them.
pub(crate) async fn release_lock(
    store: &Store,
    lock: &LockName,
    id: LockId,
    mode: Option<Mode>,
) -> Result<ReleaseOutcome, Failure> {
    let (id_entry, head, [mark, line]) = (store.layout.id_entry(lock, id), head(id), lock.line());
    let arguments = [head.as_str(), store.waiters.publish()];
    // The server copies each word into the script, so the usual command is left out.
    let arguments = if arguments[1] == "PUBLISH" { &arguments[..1] } else { &arguments };
    let mut reply = Reply::Integer(reply::NEEDS_HOLDERS);
    if mode == Some(Mode::Exclusive) {
        let keys = [lock.as_str(), &id_entry, &mark, &line];
        reply = store.change(&RELEASE, &keys, arguments, None).await?.reply;
    }
    if reply == Reply::Integer(reply::NEEDS_HOLDERS) {
        let keys = [lock.as_str(), &id_entry, &lock.shared(), &mark, &line];
        reply = store.change(&RELEASE, &keys, arguments, None).await?.reply;
    }
    match reply.integer() {
        Some(RELEASED) => {
            forget(store, id).await;
            Ok(ReleaseOutcome::Released)
        }
        Some(reply::NOT_FOUND) => Ok(ReleaseOutcome::NotHeld(NotHeld::NotFound)),
        Some(reply::EXPIRED) => Ok(ReleaseOutcome::NotHeld(NotHeld::Expired)),
        Some(reply::UNREADABLE) => Err(Failure::UNREADABLE_RECORD),
        Some(reply::UNREADABLE_HOLDERS) => Err(Failure::UNREADABLE_HOLDERS),
        _ => Err(Failure::Garbled("a release")),
    }
}

/// Writes the tombstone of the id and ends its grant and its announcement in one step, so no acquire
/// comes in between.
///
/// The tombstone is in the slot of the lock: an acquire under the same id meets it there, whichever
/// comes first and over whichever connection.
pub(crate) async fn abandon(store: &Store, id: LockId, key: &LockKey) -> Result<(), Failure> {
    let lock = store.layout.lock(key)?;
    let (id_entry, shared, head) = (store.layout.id_entry(&lock, id), lock.shared(), head(id));
    let keys = [lock.as_str(), &id_entry, &shared];
    let arguments = [head.as_str(), store.waiters.publish(), TOMBSTONE_MS];
    let reply = store.client.run(&ABANDON, &keys, &arguments).await?;
    reply.integer().ok_or(Failure::Garbled("an abandon"))?;
    forget(store, id).await;
    Ok(())
}
