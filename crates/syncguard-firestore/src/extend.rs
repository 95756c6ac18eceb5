//! The extend operation.

use syncguard_core::{
    LockId, Timestamp, Ttl,
    backend::{ExtendOutcome, LockRef, NotHeld},
};
use tokio::time::sleep;

use crate::{
    client::{Call, Lane, Version},
    clock::Sent,
    error::Failure,
    find::find,
    grants::Known,
    names::DocumentName,
    record::is_live,
    recount::is_too_early,
    release::release_after_read,
    retry::{attempts, backoff},
    store::Store,
};

/// The outcome of an attempt to move an expiry.
enum MoveOutcome {
    To(Timestamp),
    /// The grant had expired by then.
    Expired,
    /// Nothing was written: the document was not in the expected version.
    Conflict,
}

/// Moves the expiry: one round trip if this client knows the grant, two otherwise, or three if the
/// id does not hold the key.
pub(crate) async fn extend(
    store: &Store,
    lock: &LockRef,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let mut hint = lock.key.as_ref().map(|key| store.layout.lock(key)).transpose()?;
    let requested_at = Sent::now();
    let call = store.client.call(Lane::Extend);
    if let Some((known, now)) = cached_grant(store, lock.lock_id) {
        hint = Some(known.document.clone());
        match move_expiry(store, call, lock.lock_id, known, (now, requested_at), ttl).await? {
            MoveOutcome::To(expires_at) => return Ok(ExtendOutcome::Extended { expires_at }),
            MoveOutcome::Expired => return Ok(ExtendOutcome::NotHeld(NotHeld::Expired)),
            MoveOutcome::Conflict => {}
        }
    }
    extend_after_read(store, call, lock.lock_id, hint, ttl).await
}

/// Returns what an extend without a prior read needs: the grant, and the server's present time.
///
/// The latest possible time is taken as the present, so the expiry is never too early, unless the
/// server's clock was set since it was read. [`move_expiry`] detects that. A grant that may have
/// expired by then is not extended without a read.
fn cached_grant(store: &Store, id: LockId) -> Option<(Known, Timestamp)> {
    let now = store.client.clock.now()?.latest;
    let known = store.grants.find(id)?;
    is_live(known.expires_at, now).then_some((known, now))
}

/// Reads, and then moves the expiry.
pub(crate) async fn extend_after_read(
    store: &Store,
    call: Call,
    id: LockId,
    hint: Option<DocumentName>,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let mut attempts = attempts(call.deadline);
    loop {
        let requested_at = Sent::now();
        let Some(found) = find(store, call, id, hint.as_ref()).await? else {
            store.grants.forget(id);
            return Ok(ExtendOutcome::NotHeld(NotHeld::NotFound));
        };
        if !found.is_live() {
            return Ok(ExtendOutcome::NotHeld(NotHeld::Expired));
        }
        let read = (found.at, requested_at);
        match move_expiry(store, call, id, found.known(), read, ttl).await? {
            MoveOutcome::To(expires_at) => return Ok(ExtendOutcome::Extended { expires_at }),
            MoveOutcome::Expired => return Ok(ExtendOutcome::NotHeld(NotHeld::Expired)),
            MoveOutcome::Conflict => {}
        }
        attempts.next_among_readers().await.ok_or(Failure::Contention)?;
    }
}

/// Moves the expiry of a grant that is in exactly this version to the ttl after `now`. That is what
/// the server's clock showed at `requested_at`, or later.
///
/// If the commit proves that the clock had shown more by then, because it was set or the read was
/// stale, the expiry is counted from that commit.
async fn move_expiry(
    store: &Store,
    call: Call,
    id: LockId,
    known: Known,
    (now, requested_at): (Timestamp, Sent),
    ttl: Ttl,
) -> Result<MoveOutcome, Failure> {
    let expiry = (now.after(ttl), now);
    let (version, at) = match write_expiry(store, call, id, known.clone(), expiry).await? {
        WriteOutcome::Written { version, at } => (version, at),
        WriteOutcome::Expired => return Ok(MoveOutcome::Expired),
        WriteOutcome::Conflict => return Ok(MoveOutcome::Conflict),
    };
    if !is_too_early(now, at, requested_at.elapsed()) {
        return Ok(MoveOutcome::To(now.after(ttl)));
    }
    let unknown = |failure: Failure| Failure::HalfDone(failure.into());
    // It was live at that commit, so it lasts for a ttl from then on, whatever the record shows: in
    // this version, the key was granted to no other id.
    let known = Known { version, expires_at: at.after(ttl), ..known };
    match write_expiry(store, call, id, known, (at.after(ttl), at)).await.map_err(unknown)? {
        WriteOutcome::Written { .. } => Ok(MoveOutcome::To(at.after(ttl))),
        WriteOutcome::Expired => Ok(MoveOutcome::Expired),
        WriteOutcome::Conflict => Err(unknown(Failure::Contention)),
    }
}

/// The result of a commit that writes an expiry.
enum WriteOutcome {
    /// It made this version at this time.
    Written {
        version: Version,
        at: Timestamp,
    },
    Expired,
    Conflict,
}

/// Writes the expiry of a grant that is in exactly this version.
///
/// # Why it revives no grant
///
/// No condition of a commit can refer to the time, so a commit that arrives late may move the
/// expiry of a grant that has expired by then. The time of the commit is known afterwards, and the
/// previous expiry is known from the version. An extend of an expired grant is undone. Until then
/// the key looks held, and it cannot have been granted to another id: that commit would have
/// changed the version. If the reply is lost as well, the caller learns that the outcome is
/// unknown, and ends the lock when it gives up.
///
/// The same holds in shared mode, where each grant removes the holders that it passes over: one that
/// is still in the document kept its place until this commit.
async fn write_expiry(
    store: &Store,
    call: Call,
    id: LockId,
    known: Known,
    (expires_at, now): (Timestamp, Timestamp),
) -> Result<WriteOutcome, Failure> {
    let write = known.set_expiry(id, expires_at, now);
    let committed = match store.client.commit(call, vec![write]).await {
        Ok(Some(committed)) => committed,
        Ok(None) => {
            store.grants.forget(id);
            return Ok(WriteOutcome::Conflict);
        }
        Err(failure) => {
            // The version may have changed by now.
            store.grants.forget(id);
            // The holder uses the shorter of two expiries until it knows which one is stored, so
            // not even a refusal is relied upon.
            return Err(if failure.was_sent() {
                Failure::HalfDone(failure.into())
            } else {
                failure
            });
        }
    };
    let unreadable = || Failure::HalfDone(Failure::UnreadableAnswer("version of the lock").into());
    let version = *committed.versions.first().ok_or_else(unreadable)?;
    if !is_live(known.expires_at, committed.at) {
        store.grants.forget(id);
        undo(store, id, Known { version, expires_at, ..known }).await;
        return Ok(WriteOutcome::Expired);
    }
    store.grants.remember(id, Known { version, expires_at, ..known });
    Ok(WriteOutcome::Written { version, at: committed.at })
}

/// Ends an expired grant that a late extend has revived.
///
/// Another client may have ended it, with the same result, or another reader may have changed the
/// document, in which case it is read. If the server no longer answers, the key stays locked without
/// a holder until the ttl has passed.
async fn undo(store: &Store, id: LockId, revived: Known) {
    let mut backoff = backoff();
    loop {
        // Each attempt has the time of an operation: the extend has used up its own.
        let call = store.client.call(Lane::Extend);
        let ended = end_revived(store, call, id, &revived).await;
        let (failure, delay) = match (ended, backoff.next()) {
            (Ok(_), _) => return,
            (Err(failure), delay) => (failure, delay),
        };
        let Some(delay) = delay else {
            tracing::warn!(%failure, "a lock that was extended too late could not be taken back");
            return;
        };
        sleep(delay).await;
    }
}

async fn end_revived(
    store: &Store,
    call: Call,
    id: LockId,
    revived: &Known,
) -> Result<(), Failure> {
    let ended = store.client.commit(call, vec![revived.end(id, revived.version.time())]).await?;
    if ended.is_none() && revived.sharing.is_some() {
        release_after_read(store, call, id, Some(revived.document.clone())).await?;
    }
    Ok(())
}
