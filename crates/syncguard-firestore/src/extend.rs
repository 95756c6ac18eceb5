//! Extending.

use std::time::Duration;

use syncguard_core::{ExtendOutcome, LockId, LockRef, NotHeld, Timestamp, Ttl};
use tokio::time::sleep;

use crate::{
    backend::Store,
    client::{Call, Expect, Lane, Write},
    clock::Sent,
    error::Failure,
    grants::Known,
    layout::DocumentName,
    lookup::{Found, find},
    record::{expiry_fields, is_live},
    retry::{pauses, rounds},
};

/// How a commit ended that was to move an expiry.
enum Moved {
    /// It was made at this time.
    Made { at: Timestamp },
    /// The grant was over by then.
    Over,
    /// Nothing was written: the document was not as it was known.
    Outdated,
}

/// Moves the expiry: one round trip where this client knows the grant, and two otherwise, or three if the
/// key is not the id's.
pub(crate) async fn extend(
    store: &Store,
    lock: &LockRef,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let mut hint = lock.key.as_ref().map(|key| store.layout.lock(key)).transpose()?;
    let (asked, mut written) = (Sent::now(), false);
    let call = store.client.call(Lane::Extend);
    if let Some((known, now)) = at_hand(store, lock.lock_id) {
        hint = Some(known.document.clone());
        match move_expiry(store, call, lock.lock_id, known, now, ttl).await? {
            Moved::Made { at } if is_too_early(now, at, asked.elapsed()) => written = true,
            Moved::Made { .. } => return Ok(extended(now, ttl)),
            Moved::Over => return Ok(ExtendOutcome::NotHeld(NotHeld::Expired)),
            Moved::Outdated => {}
        }
    }
    let moved = ask(store, call, lock.lock_id, hint, ttl).await;
    moved.map_err(|failure| if written { Failure::HalfDone(failure.into()) } else { failure })
}

fn extended(now: Timestamp, ttl: Ttl) -> ExtendOutcome {
    ExtendOutcome::Extended { expires_at: now.after(ttl) }
}

/// Gives what is needed for an extend without a question: the grant, and what time it is at the server.
///
/// The latest that it can be is taken for the present, so the expiry is never too early, unless the
/// server's clock was set since it was read. [`is_too_early`] finds that out, and then the time is asked
/// for. A grant that may be over by then is not extended on trust.
fn at_hand(store: &Store, id: LockId) -> Option<(Known, Timestamp)> {
    let now = store.client.clock.now()?.latest;
    let known = store.grants.find(id)?;
    is_live(known.expires_at, now).then_some((known, now))
}

/// Tells whether the server's clock showed more than `now` when an extend was asked for that took so long.
///
/// Its commit was made no later than asked for plus the time that it took.
fn is_too_early(now: Timestamp, committed: Timestamp, took: Duration) -> bool {
    // Timestamps are rounded down, which takes a millisecond at the most.
    let rounding = Duration::from_millis(1);
    committed.since(now) > took + rounding
}

/// Looks, and then moves the expiry.
///
/// The time of the read is no earlier than that of the request, so a ttl after it is long enough.
async fn ask(
    store: &Store,
    call: Call,
    id: LockId,
    hint: Option<DocumentName>,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let mut rounds = rounds(call.deadline);
    loop {
        let Some(Found { document, stored, at }) = find(store, call, id, hint.as_ref()).await?
        else {
            store.grants.forget(id);
            return Ok(ExtendOutcome::NotHeld(NotHeld::NotFound));
        };
        if !stored.is_live(at) {
            return Ok(ExtendOutcome::NotHeld(NotHeld::Expired));
        }
        let known = Known { document, version: stored.version, expires_at: stored.expires_at() };
        match move_expiry(store, call, id, known, at, ttl).await? {
            Moved::Made { .. } => return Ok(extended(at, ttl)),
            Moved::Over => return Ok(ExtendOutcome::NotHeld(NotHeld::Expired)),
            Moved::Outdated => {}
        }
        rounds.next().await.ok_or(Failure::Contention)?;
    }
}

/// Moves the expiry of a grant that is in this very version.
///
/// # Why it revives nobody
///
/// No condition of a commit can speak of the time, so a commit that arrives late may move the expiry of
/// a grant that is over by then. When it was made is known afterwards, and what the expiry was until
/// then is known from the version. A grant that was over is taken back. Until that is done the key looks
/// held, and nobody else can have been granted it: their commit would have changed the version. Where the
/// answer is lost as well, the caller is told that it does not know, and ends the lock when it gives up.
async fn move_expiry(
    store: &Store,
    call: Call,
    id: LockId,
    known: Known,
    now: Timestamp,
    ttl: Ttl,
) -> Result<Moved, Failure> {
    let expires_at = now.after(ttl);
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
            return Ok(Moved::Outdated);
        }
        Err(failure) => {
            // The version may be another one by now.
            store.grants.forget(id);
            // The holder counts with the shorter of two expiries until it knows which one is stored, so
            // not even a refusal is relied upon.
            return Err(if failure.was_sent() {
                Failure::HalfDone(failure.into())
            } else {
                failure
            });
        }
    };
    let unread = || Failure::HalfDone(Failure::Unreadable("the version of the lock").into());
    let version = *committed.versions.first().ok_or_else(unread)?;
    if !is_live(known.expires_at, committed.at) {
        store.grants.forget(id);
        take_back(store, &known.document, Expect::Version(version)).await;
        return Ok(Moved::Over);
    }
    store.grants.remember(id, Known { version, expires_at, ..known });
    Ok(Moved::Made { at: committed.at })
}

/// Ends a grant that was over and was revived.
///
/// Somebody else may have ended it, and that is as well. Where the server does not answer any more,
/// nobody holds the key until the ttl is over.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::Timestamp;

    use super::is_too_early;

    #[test]
    fn an_expiry_counts_from_too_early_only_where_the_commit_proves_it() {
        let at = Timestamp::from_unix_millis;
        let took = Duration::from_millis(30);
        assert!(!is_too_early(at(1_000), at(990), took), "the clock was thought to be ahead");
        assert!(!is_too_early(at(1_000), at(1_031), took), "it took that long");
        assert!(is_too_early(at(1_000), at(1_032), took), "it had been later all along");
    }
}
