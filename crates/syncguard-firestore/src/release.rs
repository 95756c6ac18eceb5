//! The release and abandon operations.

use syncguard_core::{
    Fence, LockId, LockKey, ReleaseOutcome, Timestamp,
    backend::{LockRef, NotHeld},
};

use crate::{
    client::{Call, Document, Expect, Lane, Read, Write},
    error::Failure,
    find::find,
    names::{DocumentName, Names},
    record::{Counter, Stored, counter_fields, is_live, tombstone_fields},
    retry::attempts,
    store::Store,
};

/// Ends the grant: one round trip if this client knows it, two otherwise, or three if the id does
/// not hold the key.
///
/// The lock is deleted on the condition of its version, so of all that try one succeeds, and no
/// other holder's lock is touched. Whether the grant was still live then is judged by the time of
/// the commit.
pub(crate) async fn release(store: &Store, lock: &LockRef) -> Result<ReleaseOutcome, Failure> {
    let (id, call) = (lock.lock_id, store.client.call(Lane::Release));
    let mut hint = lock.key.as_ref().map(|key| store.layout.lock(key)).transpose()?;
    // Whatever the outcome, the known version is not certain to exist afterwards.
    if let Some(known) = store.grants.take(id) {
        let end = Write::delete(&known.document, Expect::Version(known.version));
        if let Some(committed) = store.client.commit(call, vec![end]).await? {
            return Ok(release_outcome(is_live(known.expires_at, committed.at)));
        }
        hint = Some(known.document);
    }
    release_after_read(store, call, id, hint).await
}

/// Reads, and then ends the grant.
pub(crate) async fn release_after_read(
    store: &Store,
    call: Call,
    id: LockId,
    hint: Option<DocumentName>,
) -> Result<ReleaseOutcome, Failure> {
    let mut attempts = attempts(call.deadline);
    loop {
        let Some(found) = find(store, call, id, hint.as_ref()).await? else {
            return Ok(ReleaseOutcome::NotHeld(NotHeld::NotFound));
        };
        if !found.is_live() {
            return Ok(release_outcome(false));
        }
        let end = found.known().end(id, found.at);
        if let Some(committed) = store.client.commit(call, vec![end]).await? {
            return Ok(release_outcome(is_live(found.expires_at, committed.at)));
        }
        attempts.next_among_readers().await.ok_or(Failure::Contention)?;
    }
}

fn release_outcome(live: bool) -> ReleaseOutcome {
    if live { ReleaseOutcome::Released } else { ReleaseOutcome::NotHeld(NotHeld::Expired) }
}

/// Guarantees that the id holds no grant, now or in the future: two round trips.
///
/// **Invariant:** once this has returned, every commit that would grant the key to the id fails,
/// wherever it is in flight. It rests on a state of the counter from before, or on one from after.
///
/// - From before: the counter has changed since, because the tombstone was written here. If the
///   commit comes first instead, it changes the counter, so the commit here fails, and the next
///   read finds the grant and ends it. The deletion of an exclusive lock has no condition: as long
///   as the counter is unchanged, the lock can only be that of the id, extended or not, or gone. A
///   document that others share is written on the condition of its version, since they may change
///   it at any time. That also fails an extend of the id that is in flight.
/// - From after: an acquire that reads the counter finds the tombstone and does not commit.
///
/// The commit of an announcement rests on the counter too, so the same holds for it.
///
/// A grant by TypeScript replaces the counter and drops the tombstones. It changes the counter as
/// well, so a commit that rested on it before fails nevertheless. What remains is a caller that
/// *begins* an acquire with an id that was abandoned before, after such a grant and its release.
/// This does not happen: the lock layer does not use an id again once it has abandoned it, and an
/// acquire whose future is dropped does not proceed from its read to its commit.
///
/// A counter that is missing has to be created, since a commit that expects it to be missing would
/// otherwise succeed. It begins at the fence of the lock beside it, so that no fence goes back.
///
/// As long as the counter is missing, claims are granted that do not change it, so that it does not
/// show what became of the lock. Then the commit here also rests on the lock: a grant that was made
/// since the read fails it, and the next read finds that grant, of this id or of another.
pub(crate) async fn abandon(store: &Store, id: LockId, key: &LockKey) -> Result<(), Failure> {
    let names = store.layout.names(key)?;
    let call = store.client.call(Lane::Release);
    let mut attempts = attempts(call.deadline);
    loop {
        let read = store.client.read(call, [&names.lock, &names.fence]).await?;
        if store.client.commit(call, abandon_writes(&names, id, key, read)?).await?.is_some() {
            store.grants.forget(id);
            return Ok(());
        }
        attempts.next_among_readers().await.ok_or(Failure::Contention)?;
    }
}

/// Returns the writes that abandon an id.
fn abandon_writes(
    names: &Names,
    id: LockId,
    key: &LockKey,
    read: Read<[Option<Document>; 2]>,
) -> Result<Vec<Write>, Failure> {
    let Read { at: now, found: [lock, counter] } = read;
    let counter = counter.as_ref().map(Counter::parse);
    let lock_version = Expect::unchanged(lock.as_ref().map(|lock| lock.version));
    let expect_lock = if counter.is_none() { lock_version } else { Expect::Anything };
    // A document that cannot be read is not the id's.
    let lock = lock.as_ref().and_then(|lock| Stored::parse(lock).ok());
    let expect = Expect::unchanged(counter.as_ref().map(|counter| counter.version));
    let is_new = counter.is_none();
    let mut tombstones = counter.map(Counter::tombstones).transpose()?.unwrap_or_default();
    tombstones.add(id, now);
    let tombstone = if is_new {
        let last = lock.as_ref().map_or(Fence::ZERO, Stored::fence);
        Write::replace(&names.fence, counter_fields(key, last, tombstones), expect)
    } else {
        Write::merge(&names.fence, &["abandoned"], tombstone_fields(tombstones), expect)
    };
    let end = match lock.and_then(|lock| end_write(&names.lock, lock, id, now, expect_lock)) {
        Some(end) => vec![end],
        None if is_new => Write::verify(&names.lock, expect_lock),
        None => Vec::new(),
    };
    Ok([vec![tombstone], end].concat())
}

/// Returns the write that ends the grant and the announcement of an id, if it has one. `exclusive` is
/// what it expects of an exclusive lock.
fn end_write(
    name: &DocumentName,
    lock: Stored,
    id: LockId,
    now: Timestamp,
    exclusive: Expect,
) -> Option<Write> {
    match lock.sharing() {
        None => lock.is_of(id).then(|| Write::delete(name, exclusive)),
        Some(sharing) if sharing.names(id) => {
            let rest = sharing.clone().without(id, now);
            Some(rest.write(name, Expect::Version(lock.version)))
        }
        Some(_) => None,
    }
}
