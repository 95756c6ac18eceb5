//! The extend operation.

use syncguard_core::{ExtendOutcome, LockId, LockRef, NotHeld, Timestamp, Ttl};
use tokio::time::sleep;

use crate::{
    client::{Call, Expect, Lane, Version, Write},
    clock::Sent,
    error::Failure,
    find::{Found, find},
    grants::Known,
    names::DocumentName,
    record::{expiry_fields, is_live},
    recount::is_too_early,
    retry::{pauses, rounds},
    store::Store,
};

/// How an attempt to move an expiry ended.
enum Moved {
    To(Timestamp),
    /// The grant was over by then.
    Over,
    /// Nothing was written: the document was not in the expected version.
    Outdated,
}

/// Moves the expiry: one round trip if this client knows the grant, two otherwise, or three if the
/// id does not hold the key.
pub(crate) async fn extend(
    store: &Store,
    lock: &LockRef,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let mut hint = lock.key.as_ref().map(|key| store.layout.lock(key)).transpose()?;
    let asked = Sent::now();
    let call = store.client.call(Lane::Extend);
    if let Some((known, now)) = at_hand(store, lock.lock_id) {
        hint = Some(known.document.clone());
        match move_expiry(store, call, lock.lock_id, known, (now, asked), ttl).await? {
            Moved::To(expires_at) => return Ok(ExtendOutcome::Extended { expires_at }),
            Moved::Over => return Ok(ExtendOutcome::NotHeld(NotHeld::Expired)),
            Moved::Outdated => {}
        }
    }
    ask(store, call, lock.lock_id, hint, ttl).await
}

/// Returns what an extend without a prior read needs: the grant, and the server's present time.
///
/// The latest possible time is taken as the present, so the expiry is never too early, unless the
/// server's clock was set since it was read. [`move_expiry`] detects that. A grant that may be over
/// by then is not extended without a read.
fn at_hand(store: &Store, id: LockId) -> Option<(Known, Timestamp)> {
    let now = store.client.clock.now()?.latest;
    let known = store.grants.find(id)?;
    is_live(known.expires_at, now).then_some((known, now))
}

/// Reads, and then moves the expiry.
async fn ask(
    store: &Store,
    call: Call,
    id: LockId,
    hint: Option<DocumentName>,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let mut rounds = rounds(call.deadline);
    loop {
        let asked = Sent::now();
        let Some(Found { document, stored, at }) = find(store, call, id, hint.as_ref()).await?
        else {
            store.grants.forget(id);
            return Ok(ExtendOutcome::NotHeld(NotHeld::NotFound));
        };
        if !stored.is_live(at) {
            return Ok(ExtendOutcome::NotHeld(NotHeld::Expired));
        }
        let known = Known { document, version: stored.version, expires_at: stored.expires_at() };
        match move_expiry(store, call, id, known, (at, asked), ttl).await? {
            Moved::To(expires_at) => return Ok(ExtendOutcome::Extended { expires_at }),
            Moved::Over => return Ok(ExtendOutcome::NotHeld(NotHeld::Expired)),
            Moved::Outdated => {}
        }
        rounds.next().await.ok_or(Failure::Contention)?;
    }
}

/// Moves the expiry of a grant that is in exactly this version to the ttl after `now`: what the
/// server's clock showed when it was `asked`, or later.
///
/// If the commit proves that the clock had shown more by then, because it was set or the read was
/// stale, the expiry is counted from that commit.
async fn move_expiry(
    store: &Store,
    call: Call,
    id: LockId,
    known: Known,
    (now, asked): (Timestamp, Sent),
    ttl: Ttl,
) -> Result<Moved, Failure> {
    let document = known.document.clone();
    let (version, at) = match write_expiry(store, call, id, known, now.after(ttl)).await? {
        Written::Made { version, at } => (version, at),
        Written::Over => return Ok(Moved::Over),
        Written::Outdated => return Ok(Moved::Outdated),
    };
    if !is_too_early(now, at, asked.elapsed()) {
        return Ok(Moved::To(now.after(ttl)));
    }
    let unknown = |failure: Failure| Failure::HalfDone(failure.into());
    // It was live at that commit, so it lasts for a ttl from then on, whatever the record shows: in
    // this version, the key was granted to no other id.
    let known = Known { document, version, expires_at: at.after(ttl) };
    match write_expiry(store, call, id, known, at.after(ttl)).await.map_err(unknown)? {
        Written::Made { .. } => Ok(Moved::To(at.after(ttl))),
        Written::Over => Ok(Moved::Over),
        Written::Outdated => Err(unknown(Failure::Contention)),
    }
}

/// The result of a commit that writes an expiry.
enum Written {
    /// It made this version at this time.
    Made {
        version: Version,
        at: Timestamp,
    },
    Over,
    Outdated,
}

/// Writes the expiry of a grant that is in exactly this version.
///
/// # Why it revives no grant
///
/// No condition of a commit can refer to the time, so a commit that arrives late may move the
/// expiry of a grant that is over by then. The time of the commit is known afterwards, and the
/// previous expiry is known from the version. A grant that was over is taken back. Until that is
/// done the key looks held, and it cannot have been granted to another id: that commit would have
/// changed the version. If the answer is lost as well, the caller learns that the outcome is
/// unknown, and ends the lock when it gives up.
async fn write_expiry(
    store: &Store,
    call: Call,
    id: LockId,
    known: Known,
    expires_at: Timestamp,
) -> Result<Written, Failure> {
    let write = Write::merge(
        &known.document,
        &["expiresAtMs"],
        expiry_fields(expires_at),
        Expect::Version(known.version),
    );
    let committed = match store.client.commit(call, vec![write]).await {
        Ok(Some(committed)) => committed,
        Ok(None) => {
            store.grants.forget(id);
            return Ok(Written::Outdated);
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
    let unread = || Failure::HalfDone(Failure::UnreadableAnswer("version of the lock").into());
    let version = *committed.versions.first().ok_or_else(unread)?;
    if !is_live(known.expires_at, committed.at) {
        store.grants.forget(id);
        take_back(store, &known.document, Expect::Version(version)).await;
        return Ok(Written::Over);
    }
    store.grants.remember(id, Known { version, expires_at, ..known });
    Ok(Written::Made { version, at: committed.at })
}

/// Ends a grant that was over and was revived.
///
/// Another client may have ended it, with the same result. If the server no longer answers, the key
/// stays taken without a holder until the ttl is over.
async fn take_back(store: &Store, document: &DocumentName, revived: Expect) {
    let mut pauses = pauses();
    loop {
        // Each attempt has the time of an operation: the extend has used up its own.
        let call = store.client.call(Lane::Extend);
        let deleted = store.client.commit(call, vec![Write::delete(document, revived)]).await;
        let (failure, pause) = match (deleted, pauses.next()) {
            (Ok(_), _) => return,
            (Err(failure), pause) => (failure, pause),
        };
        let Some(pause) = pause else {
            tracing::warn!(%failure, "a lock that was extended too late could not be taken back");
            return;
        };
        sleep(pause).await;
    }
}
