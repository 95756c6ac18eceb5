//! Releasing and calling off.

use syncguard_core::{Fence, LockId, LockKey, LockRef, NotHeld, ReleaseOutcome};

use crate::{
    client::{Call, Document, Expect, Lane, Read, Write},
    error::Failure,
    find::{Found, find},
    names::{DocumentName, Names},
    record::{Counter, Stored, counter_fields, is_live, mark_fields},
    retry::rounds,
    store::Store,
};

/// Ends the grant: one round trip where this client knows it, and two otherwise, or three if the key is not
/// the id's.
///
/// The lock is deleted on the condition of its version, so of all who try one succeeds, and nobody
/// else's lock is touched. Whether the grant was still live then is judged by the time of the commit.
pub(crate) async fn release(store: &Store, lock: &LockRef) -> Result<ReleaseOutcome, Failure> {
    let (id, call) = (lock.lock_id, store.client.call(Lane::Release));
    let mut hint = lock.key.as_ref().map(|key| store.layout.lock(key)).transpose()?;
    // Whatever comes of it, the version that is known is not known to be there afterwards.
    if let Some(known) = store.grants.take(id) {
        let delete = Write::delete(&known.document, Expect::Version(known.version));
        if let Some(committed) = store.client.commit(call, vec![delete]).await? {
            return Ok(ended(is_live(known.expires_at, committed.at)));
        }
        hint = Some(known.document);
    }
    ask(store, call, id, hint).await
}

/// Looks, and then ends the grant.
async fn ask(
    store: &Store,
    call: Call,
    id: LockId,
    hint: Option<DocumentName>,
) -> Result<ReleaseOutcome, Failure> {
    let mut rounds = rounds(call.deadline);
    loop {
        let Some(Found { document, stored, at }) = find(store, call, id, hint.as_ref()).await?
        else {
            return Ok(ReleaseOutcome::NotHeld(NotHeld::NotFound));
        };
        if !stored.is_live(at) {
            return Ok(ended(false));
        }
        let delete = Write::delete(&document, Expect::Version(stored.version));
        if let Some(committed) = store.client.commit(call, vec![delete]).await? {
            return Ok(ended(is_live(stored.expires_at(), committed.at)));
        }
        rounds.next().await.ok_or(Failure::Contention)?;
    }
}

fn ended(live: bool) -> ReleaseOutcome {
    if live { ReleaseOutcome::Released } else { ReleaseOutcome::NotHeld(NotHeld::Expired) }
}

/// Makes sure that no grant under the id exists now or later: two round trips.
///
/// **Invariant:** once this has answered, every commit that would grant the key to the id, wherever it
/// is on its way, fails. It rests on a state of the counter from before, or on one from after.
///
/// - From before: the counter has changed since, because the mark was written here. Should the commit
///   come first instead, it changes the counter, so the commit here fails, and the next look finds the
///   grant and ends it. The deletion itself has no condition: as long as the counter is unchanged, the
///   lock can only be that of the id, extended or not, or gone.
/// - From after: whoever reads the counter finds the mark and does not commit.
///
/// A grant by TypeScript replaces the counter and drops the marks. It changes the counter as well, so
/// what rested on it before fails all the same. What is left is somebody who *begins* to ask with an id
/// that was abandoned before, after such a grant and its release. Nobody does: the lock layer asks with
/// an id no more once it has called it off, and an acquire whose future is dropped does not go on from
/// its read to its commit.
///
/// A counter that is missing has to be made, since a commit that expects it to be missing would
/// otherwise go through. It begins where the lock beside it stands, so that no fence goes back.
pub(crate) async fn abandon(store: &Store, id: LockId, key: &LockKey) -> Result<(), Failure> {
    let names = store.layout.names(key)?;
    let call = store.client.call(Lane::Release);
    let mut rounds = rounds(call.deadline);
    loop {
        let read = store.client.read(call, [&names.lock, &names.fence]).await?;
        if store.client.commit(call, called_off(&names, id, key, read)?).await?.is_some() {
            store.grants.forget(id);
            return Ok(());
        }
        rounds.next().await.ok_or(Failure::Contention)?;
    }
}

/// The writes that call off an id.
fn called_off(
    names: &Names,
    id: LockId,
    key: &LockKey,
    read: Read<[Option<Document>; 2]>,
) -> Result<Vec<Write>, Failure> {
    let Read { at: now, found: [lock, counter] } = read;
    // What cannot be read is not the id's.
    let lock = lock.as_ref().and_then(|lock| Stored::parse(lock).ok());
    let counter = counter.as_ref().map(Counter::parse);
    let expect = Expect::unchanged(counter.as_ref().map(|counter| counter.version));
    let is_new = counter.is_none();
    let mut marks = counter.map(Counter::marks).transpose()?.unwrap_or_default();
    marks.add(id, now);
    let mark = if is_new {
        let last = lock.as_ref().map_or(Fence::ZERO, Stored::fence);
        Write::replace(&names.fence, counter_fields(key, last, marks), expect)
    } else {
        Write::merge(&names.fence, &["abandoned"], mark_fields(marks), expect)
    };
    let own = lock.is_some_and(|lock| lock.is_of(id));
    let end = own.then(|| Write::delete(&names.lock, Expect::Anything));
    Ok(std::iter::once(mark).chain(end).collect())
}
