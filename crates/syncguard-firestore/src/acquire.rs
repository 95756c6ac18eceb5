//! The acquire operation.

use crate::{
    client::{Call, Committed, Document, Expect, Lane, Read, Write},
    clock::Sent,
    error::Failure,
    grants::Known,
    names::{DocumentName, Names},
    record::{Counter, Stored, Tombstones, counter_fields, lock_fields},
    recount::{ExpiryBase, recount, stored_may_be_too_early},
    retry::attempts,
    store::Store,
};
use syncguard_core::{
    Fence, Holder, Timestamp, Ttl, UnsafeSettings,
    backend::{AcquireOutcome, AcquireRequest, Grant},
};

/// The state of a key when it was read.
enum KeyState {
    Free(Free),
    /// The id holds it.
    Own(Stored),
    Contended(Option<Holder>),
}

/// The outcome of a read of a key.
enum ReadOutcome {
    Free(Free),
    /// This is the outcome, as of the time of the read.
    Settled(AcquireOutcome, Timestamp),
}

/// A key that can be granted.
struct Free {
    now: Timestamp,
    fence: Fence,
    tombstones: Tombstones,
    /// What the commit expects of the lock and of the counter: their state when they were read.
    lock: Expect,
    counter: Expect,
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
    if request.mode.is_shared() {
        return Err(Failure::SharedMode);
    }
    let names = store.layout.names(&request.key)?;
    let call = store.client.call(Lane::Common);
    let commit_call = call.reserving(store.client.outcome_reserve());
    let mut attempts = attempts(commit_call.deadline);
    loop {
        let requested_at = Sent::now();
        let free = match read_key(store, request, &names, call).await? {
            ReadOutcome::Free(free) => free,
            ReadOutcome::Settled(outcome, _) => return Ok(outcome),
        };
        let base =
            ExpiryBase { from: free.now, requested_at, commit_delay: requested_at.elapsed() };
        let grant = Grant { fence: free.fence, expires_at: free.now.after(request.ttl) };
        let written = grant_writes(request, &names, free, grant);
        match store.client.commit(commit_call, written).await {
            Ok(Some(committed)) => {
                let grant =
                    committed_grant(store, request, call, names.lock, grant, (base, committed));
                return grant.await.map(AcquireOutcome::Granted);
            }
            // Another client committed first. The next read shows which.
            Ok(None) => {
                if attempts.next().await.is_none() {
                    return attempts_exhausted(read_key(store, request, &names, call).await);
                }
            }
            Err(failure) if failure.was_sent() => {
                let reread = read_key(store, request, &names, call).await;
                return resolve(failure, base.from, reread);
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
    let outcome = match key_state(store, request, read)? {
        KeyState::Free(free) => return Ok(ReadOutcome::Free(free)),
        KeyState::Contended(holder) => AcquireOutcome::Contended { holder },
        KeyState::Own(stored) => {
            let grant = stored_grant(store, request, call, names.lock.clone(), &stored).await?;
            AcquireOutcome::Granted(grant)
        }
    };
    Ok(ReadOutcome::Settled(outcome, at))
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
    let known = Known { document, version, expires_at: grant.expires_at };
    if base.may_be_too_early(committed.at) {
        return recount(store, call, request, grant, known).await;
    }
    store.grants.remember(request.lock_id, known);
    Ok(grant)
}

/// Returns the grant that the id has on record.
async fn stored_grant(
    store: &Store,
    request: &AcquireRequest,
    call: Call,
    document: DocumentName,
    stored: &Stored,
) -> Result<Grant, Failure> {
    let (grant, version) = (stored.grant(), stored.version);
    let known = Known { document, version, expires_at: grant.expires_at };
    if stored_may_be_too_early(stored, request) {
        return recount(store, call, request, grant, known).await;
    }
    store.grants.remember(request.lock_id, known);
    Ok(grant)
}

/// Returns the outcome if every commit conflicted with another client's and there is no time for
/// more.
///
/// No commit was applied, whatever the last read found: other clients contend for the key, whether
/// or not one of them holds it.
fn attempts_exhausted(reread: Result<ReadOutcome, Failure>) -> Result<AcquireOutcome, Failure> {
    match reread {
        Ok(ReadOutcome::Settled(outcome, _)) => Ok(outcome),
        // The record was not read.
        Ok(ReadOutcome::Free(_)) | Err(Failure::Refused(..)) => {
            Ok(AcquireOutcome::Contended { holder: None })
        }
        Err(failure) => Err(failure),
    }
}

/// Determines the outcome of a commit that was sent and failed, from a read of the key afterwards.
/// The key was free when it was read before the commit, at `read_at`; a read that shows an earlier
/// state proves nothing.
///
/// - The id holds the key: the commit was applied.
/// - Another id holds it. The key was free when it was read before the commit, and what has changed
///   since is a condition of that commit. So it can no longer be applied; and had it been applied,
///   its grant had ended before the other was made.
/// - The id was abandoned, so it holds nothing, now or in the future.
/// - No one holds it. A commit that was answered with a refusal was not applied. Any other may
///   still be in flight, for instance behind a transaction that another client keeps open.
fn resolve(
    failure: Failure,
    read_at: Timestamp,
    reread: Result<ReadOutcome, Failure>,
) -> Result<AcquireOutcome, Failure> {
    match reread {
        Ok(ReadOutcome::Settled(outcome, at)) if at >= read_at => Ok(outcome),
        Ok(ReadOutcome::Free(_)) if failure.is_refusal() => Err(failure),
        Err(Failure::Abandoned) => Err(Failure::Abandoned),
        Ok(_) | Err(_) => Err(Failure::HalfDone(failure.into())),
    }
}

fn key_state(
    store: &Store,
    request: &AcquireRequest,
    read: Read<[Option<Document>; 2]>,
) -> Result<KeyState, Failure> {
    let Read { at: now, found: [lock, counter] } = read;
    let counter = counter.as_ref().map(Counter::parse);
    if counter.as_ref().is_some_and(|counter| counter.has_abandoned(request.lock_id)) {
        return Err(Failure::Abandoned);
    }
    let lock = lock.as_ref().map(Stored::parse).transpose()?;
    if let Some(stored) = &lock {
        match (stored.is_of(request.lock_id), stored.is_live(now)) {
            (true, true) if is_confirmed(stored, counter.as_ref(), request.ttl) => {
                return Ok(KeyState::Own(stored.clone()));
            }
            (true, true) => return Err(Failure::HalfGranted),
            (false, true) => return Ok(KeyState::Contended(Some(stored.holder(now)))),
            // An id names at most one grant, and this one had its grant.
            (true, false) => return Ok(KeyState::Contended(None)),
            (false, false) => {}
        }
    }
    let fence = next_fence(lock.as_ref(), counter.as_ref())?;
    reject_unsafe(store)?;
    let versions = (lock.map(|lock| lock.version), counter.as_ref().map(|c| c.version));
    let mut tombstones = counter.map(Counter::tombstones).transpose()?.unwrap_or_default();
    tombstones.prune(now);
    let (lock, counter) = (Expect::unchanged(versions.0), Expect::unchanged(versions.1));
    Ok(KeyState::Free(Free { now, fence, tombstones, lock, counter }))
}

/// Returns whether the counter confirms the grant that the lock shows.
///
/// A grant writes both in one commit, and nothing decrements a counter. So the counter has the
/// fence, or a higher one, and was changed with the lock or later: an abandon of another id changes
/// it again. If a server applied a commit in part, or the lock was written by hand, only the lock
/// claims that its fence was granted. The counter, which was changed before, may have granted the
/// same fence to another holder. Once a grant was extended, its lock has a later version, and the
/// client that extended it had received the grant.
fn is_confirmed(stored: &Stored, counter: Option<&Counter>, ttl: Ttl) -> bool {
    counter.is_some_and(|counter| {
        let has_fence = counter.fence().is_ok_and(|last| last >= stored.fence());
        has_fence && (counter.version >= stored.version || !stored.is_unextended(ttl))
    })
}

/// Returns the fence of the next grant.
///
/// A lock and its counter are written together. So a counter that is missing beside a lock, or is
/// behind it, was deleted or restored from a copy. Its next value may have been granted before.
fn next_fence(lock: Option<&Stored>, counter: Option<&Counter>) -> Result<Fence, Failure> {
    let last = match (lock, counter) {
        (Some(_), None) => {
            return Err(Failure::FenceLost("the fence counter of a lock is missing"));
        }
        (None, None) => Fence::ZERO,
        (lock, Some(counter)) => {
            let last = counter.fence()?;
            if lock.is_some_and(|lock| last < lock.fence()) {
                return Err(Failure::FenceLost("the fence counter is behind the last grant"));
            }
            last
        }
    };
    last.next().ok_or(Failure::FenceLimit)
}

/// Refuses to grant while the wall clock is wrong, if so configured.
fn reject_unsafe(store: &Store) -> Result<(), Failure> {
    match store.client.clock.skew() {
        Some(skew) if store.unsafe_settings == UnsafeSettings::Refuse => {
            Err(Failure::Unsafe(skew.setting()))
        }
        _ => Ok(()),
    }
}

/// The writes of a grant.
fn grant_writes(request: &AcquireRequest, names: &Names, free: Free, grant: Grant) -> Vec<Write> {
    let lock = lock_fields(request, grant, free.now);
    let counter = counter_fields(&request.key, grant.fence, free.tombstones);
    vec![
        Write::replace(&names.lock, lock, free.lock),
        Write::replace(&names.fence, counter, free.counter),
    ]
}
