//! The acquire operation.

use syncguard_core::{
    Fence, Timestamp,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, Grant, Mode},
};

use crate::{
    client::{Call, Committed, Expect, Lane, Write},
    clock::Sent,
    error::Failure,
    extend::extend_after_read,
    grants::Known,
    key_state::{Announce, Free, KeyState, Own, key_state},
    names::{DocumentName, Names},
    prune::prune_after_claim,
    record::{counter_fields, lock_fields},
    recount::{ExpiryBase, recount},
    retry::attempts,
    sharing::announcement_fields,
    store::Store,
};

/// The outcome of a read of a key.
enum ReadOutcome {
    Free(Free),
    Settled(Settled),
}

/// The outcome of an acquire, as of the time of a read.
struct Settled {
    outcome: AcquireOutcome,
    at: Timestamp,
    /// What is to be written before it is returned.
    announce: Option<Announce>,
}

/// Grants the key, or reports its current holder, in one or two round trips.
///
/// # Why no other id is granted the key
///
/// Both documents are read, and written in one commit on the condition that neither has changed
/// since. Every grant, by any client, increments the fence and thereby changes the counter. So of
/// all commits that rest on the same state of the counter, one is made. No lock is held in between,
/// and nothing is written if the key is taken.
///
/// A claim on a key without a counter creates none. It rests on the counter being missing, and on the
/// lock, which every grant changes: a fresh document, or another version. So of a claim and another
/// grant that rest on the same state of the lock, one is made. If a lock was made and deleted since
/// it was read as missing, the key is free again, and a claim that is granted then takes it from no
/// one.
///
/// In shared mode, the lock also changes whenever a reader joins, extends or leaves, and when a
/// writer announces that it waits. So a grant rests on exactly the holders and the announcement by
/// which it was decided, and an announcement on the key still having readers.
///
/// # Why the grant lasts for long enough
///
/// The expiry has to be written before the time of the commit is known. It is the time of the read
/// plus the ttl. The server reads after it received the request, so its clock showed no less then
/// than it did when the caller sent the request. The record therefore never expires earlier than a
/// ttl after that, by the server's own clock, and the holder counts from that moment. The time
/// between the read and the commit is lost to the grant, as it is to its holder.
///
/// The time of the commit [shows](ExpiryBase::may_be_too_early) whether the read was made when it
/// was requested. If it may not have been, the grant is [counted](recount) from its commit before
/// the caller learns of it. The same holds for a grant that is found on record because the reply to
/// its commit was lost.
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    let names = store.layout.names(&request.key)?;
    let call = store.client.call(Lane::Common);
    let commit_call = call.reserving(store.client.outcome_reserve());
    let mut attempts = attempts(commit_call.deadline);
    loop {
        let requested_at = Sent::now();
        let free = match read_key(store, request, &names, call).await? {
            ReadOutcome::Free(free) => free,
            ReadOutcome::Settled(Settled { outcome, announce: None, .. }) => return Ok(outcome),
            ReadOutcome::Settled(Settled { outcome, announce: Some(announce), .. }) => {
                if write_announcement(store, commit_call, &names, announce).await
                    || attempts.next_among_readers().await.is_none()
                {
                    return Ok(outcome);
                }
                continue;
            }
        };
        let base =
            ExpiryBase { from: free.now, requested_at, commit_delay: requested_at.elapsed() };
        let grant = Grant { fence: free.fence, expires_at: free.now.after(request.ttl) };
        let written = grant_writes(request, &names, free, grant);
        match store.client.commit(commit_call, written).await {
            Ok(Some(committed)) => {
                if grant.fence == Fence::ZERO {
                    prune_after_claim(store, request.lock_id, committed.at);
                }
                let grant =
                    committed_grant(store, request, call, names.lock, grant, (base, committed));
                return grant.await.map(AcquireOutcome::Granted);
            }
            // Another client committed first. The next read shows which.
            Ok(None) => {
                let next = match request.mode {
                    Mode::Exclusive => attempts.next().await,
                    Mode::Shared { .. } => attempts.next_among_readers().await,
                };
                if next.is_none() {
                    return attempts_exhausted(read_key(store, request, &names, call).await);
                }
            }
            Err(failure) if failure.was_sent() => {
                let reread = read_key(store, request, &names, call).await;
                return resolve(failure, (grant.fence, base.from), reread);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Reads the state of the key: one round trip.
async fn read_key(
    store: &Store,
    request: &AcquireRequest,
    names: &Names,
    call: Call,
) -> Result<ReadOutcome, Failure> {
    let read = store.client.read(call, [&names.lock, &names.fence]).await?;
    let at = read.at;
    let (outcome, announce) = match key_state(store, request, read)? {
        KeyState::Free(free) => return Ok(ReadOutcome::Free(free)),
        KeyState::Contended(holder, announce) => (AcquireOutcome::Contended { holder }, announce),
        KeyState::Own(own) => {
            let grant = own_grant(store, request, call, names.lock.clone(), own).await?;
            (AcquireOutcome::Granted(grant), None)
        }
    };
    Ok(ReadOutcome::Settled(Settled { outcome, at, announce }))
}

/// Writes an announcement. Returns `false` if it has to be decided again, because a document has
/// changed since.
///
/// It rests on the counter as well, which an abandon changes: so an announcement that is still in
/// flight when its id is abandoned is not made afterwards.
///
/// The key is contended whatever becomes of this: a failure costs its caller no more than that new
/// readers are admitted.
async fn write_announcement(store: &Store, call: Call, names: &Names, announce: Announce) -> bool {
    let fields = announcement_fields(&announce.announcement);
    let writes =
        vec![Write::merge(&names.lock, &["announcement"], fields, Expect::Version(announce.lock))];
    let verify = Write::verify(&names.fence, Expect::Version(announce.counter));
    match store.client.commit(call, [writes, verify].concat()).await {
        Ok(committed) => committed.is_some(),
        Err(failure) => {
            tracing::debug!(%failure, "a waiting writer could not be announced");
            true
        }
    }
}

/// Returns the grant that was just committed.
async fn committed_grant(
    store: &Store,
    request: &AcquireRequest,
    call: Call,
    document: DocumentName,
    grant: Grant,
    (base, committed): (ExpiryBase, Committed),
) -> Result<Grant, Failure> {
    let Some(version) = committed.versions.first().copied() else {
        return Err(Failure::HalfDone(Failure::UnreadableAnswer("version of the lock").into()));
    };
    let may_be_too_early = base.may_be_too_early(committed.at);
    own_grant(store, request, call, document, Own { grant, version, may_be_too_early }).await
}

/// Returns the grant that the id has, after it is counted from a later time if necessary.
async fn own_grant(
    store: &Store,
    request: &AcquireRequest,
    call: Call,
    document: DocumentName,
    Own { grant, version, may_be_too_early }: Own,
) -> Result<Grant, Failure> {
    if request.mode.is_shared() {
        return match may_be_too_early {
            true => recount_reader(store, request, call, document, grant).await,
            false => Ok(grant),
        };
    }
    let known = Known { document, version, expires_at: grant.expires_at, sharing: None };
    if may_be_too_early {
        return recount(store, call, request, grant, known).await;
    }
    store.grants.remember(request.lock_id, known);
    Ok(grant)
}

/// Extends a grant in shared mode that was not reported yet, among others that change the document.
/// If this fails, the caller learns that the outcome is unknown, as after a [`recount`].
async fn recount_reader(
    store: &Store,
    request: &AcquireRequest,
    call: Call,
    document: DocumentName,
    grant: Grant,
) -> Result<Grant, Failure> {
    let unknown = |failure: Failure| Failure::HalfDone(failure.into());
    let extended =
        extend_after_read(store, call, request.lock_id, Some(document), request.ttl).await;
    match extended.map_err(unknown)? {
        ExtendOutcome::Extended { expires_at } => Ok(Grant { expires_at, ..grant }),
        ExtendOutcome::NotHeld(_) => Err(unknown(Failure::Contention)),
    }
}

/// Returns the outcome if every commit conflicted with another client's and there is no time for
/// more.
///
/// No commit was applied, whatever the last read found: other clients contend for the key, whether
/// or not one of them holds it.
fn attempts_exhausted(reread: Result<ReadOutcome, Failure>) -> Result<AcquireOutcome, Failure> {
    match reread {
        Ok(ReadOutcome::Settled(settled)) => Ok(settled.outcome),
        // The record was not read.
        Ok(ReadOutcome::Free(_)) | Err(Failure::Refused(..)) => {
            Ok(AcquireOutcome::Contended { holder: None })
        }
        Err(failure) => Err(failure),
    }
}

/// Determines the outcome of a commit that was sent and failed, from a read of the key afterwards.
/// The key was free when it was read before the commit, at `read_at`, to be granted under `fence`; a
/// read that shows an earlier state proves nothing.
///
/// - The id holds the key: the commit was applied.
/// - Another id holds it. The key was free when it was read before the commit, and what has changed
///   since is a condition of that commit. So it can no longer be applied; and had it been applied,
///   its grant had ended before the other was made.
///   The same holds if the id is refused in shared mode: time alone only admits more, so the lock,
///   whose version is a condition too, has changed.
///   It does not hold for a claim without a counter, because the other id's grant may not have
///   changed the counter either. Once that is deleted, the state on which the commit rests is back,
///   and a commit in flight is applied.
/// - The id was abandoned, so it holds nothing, now or in the future.
/// - No one holds it. A commit that was answered with a refusal was not applied. Any other may
///   still be in flight, for instance behind a transaction that another client keeps open.
fn resolve(
    failure: Failure,
    (fence, read_at): (Fence, Timestamp),
    reread: Result<ReadOutcome, Failure>,
) -> Result<AcquireOutcome, Failure> {
    let is_settled = |settled: &Settled| {
        let is_granted = matches!(settled.outcome, AcquireOutcome::Granted(_));
        let is_ruled_out = fence != Fence::ZERO || failure.is_refusal();
        settled.at >= read_at && (is_granted || is_ruled_out)
    };
    match reread {
        Ok(ReadOutcome::Settled(settled)) if is_settled(&settled) => Ok(settled.outcome),
        Ok(ReadOutcome::Free(_)) if failure.is_refusal() => Err(failure),
        Err(Failure::Abandoned) => Err(Failure::Abandoned),
        Ok(_) | Err(_) => Err(Failure::HalfDone(failure.into())),
    }
}

/// The writes of a grant.
fn grant_writes(request: &AcquireRequest, names: &Names, free: Free, grant: Grant) -> Vec<Write> {
    let lock = match free.sharing {
        None => {
            let fields = lock_fields(request, grant, free.now);
            Write::replace(&names.lock, fields, free.lock)
        }
        Some(mut sharing) => {
            sharing.grant(request, grant, free.now);
            sharing.write(&names.lock, free.lock)
        }
    };
    let counter = match grant.fence {
        Fence::ZERO => Write::verify(&names.fence, free.counter),
        fence => {
            let fields = counter_fields(&request.key, fence, free.tombstones);
            vec![Write::replace(&names.fence, fields, free.counter)]
        }
    };
    [vec![lock], counter].concat()
}
