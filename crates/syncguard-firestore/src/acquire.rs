//! Granting.

use crate::{
    backend::Store,
    check,
    client::{Call, Committed, Document, Expect, Lane, Read, Write},
    error::Failure,
    grants::Known,
    layout::DocumentName,
    record::{Counter, Marks, Stored, counter_fields, lock_fields},
    retry::rounds,
};
use syncguard_core::{
    AcquireOutcome, AcquireRequest, Fence, Grant, Mode, Timestamp, UnsafeSettings,
};

/// The documents of a key.
pub(crate) struct Names {
    pub(crate) lock: DocumentName,
    pub(crate) fence: DocumentName,
}

/// How a key stands.
enum Standing {
    Free(Free),
    /// It is the answer.
    Settled(AcquireOutcome),
}

/// A key that can be granted.
struct Free {
    now: Timestamp,
    fence: Fence,
    marks: Marks,
    /// What was read of the lock and of the counter.
    lock: Expect,
    counter: Expect,
}

/// Grants the key, or says who has it: two round trips, or one.
///
/// # Why nobody else is granted the key
///
/// Both documents are read, and written in one commit on the condition that neither has changed since.
/// Every grant, by whomever, counts the fence up and thereby changes the counter. So of all commits that
/// rest on the same state of the counter, one is made. No lock is held in between, and nothing is
/// written where the key is taken.
///
/// # Why the grant lasts for long enough
///
/// The expiry has to be written before it is known when the commit will be made. It is the time of the
/// read plus the ttl. The server read after this was asked for, so its clock showed no less then than it
/// did when the caller asked: the record never ends earlier than a ttl after that, by the server's own
/// clock, and that is from when on its holder counts. What passes between the read and the commit is
/// lost to the grant, as to its holder.
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    if request.mode == Mode::Shared {
        return Err(Failure::SharedMode);
    }
    let names = store.names(&request.key)?;
    let call = store.client.call(Lane::Common);
    let in_time = call.leaving(store.client.time_to_look());
    let mut rounds = rounds(in_time.deadline);
    loop {
        let free = match look(store, request, &names, call).await? {
            Standing::Free(free) => free,
            Standing::Settled(outcome) => return Ok(outcome),
        };
        let grant = Grant { fence: free.fence, expires_at: free.now.after(request.ttl) };
        let written = grant_of(request, &names, free, grant);
        match store.client.commit(in_time, written).await {
            Ok(Some(committed)) => {
                remember(store, request, names.lock, grant, &committed);
                return Ok(AcquireOutcome::Granted(grant));
            }
            // Another client was faster. The next look shows which.
            Ok(None) => {
                if rounds.next().await.is_none() {
                    return refused(look(store, request, &names, call).await);
                }
            }
            Err(failure) if failure.was_sent() => {
                let looked = look(store, request, &names, call).await;
                return resolve(failure, looked);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Reads how the key stands: one round trip.
async fn look(
    store: &Store,
    request: &AcquireRequest,
    names: &Names,
    call: Call,
) -> Result<Standing, Failure> {
    let read = store.client.read(call, [&names.lock, &names.fence]).await?;
    standing(store, request, names, read)
}

/// The outcome where every commit met another client's, and there is no time for more.
///
/// No commit was applied, whatever the last look found: others are at the key, whether one of them holds
/// it or not.
fn refused(looked: Result<Standing, Failure>) -> Result<AcquireOutcome, Failure> {
    match looked {
        Ok(Standing::Settled(outcome)) => Ok(outcome),
        // It was not read.
        Ok(Standing::Free(_)) | Err(Failure::Refused(..)) => {
            Ok(AcquireOutcome::Contended { holder: None })
        }
        Err(failure) => Err(failure),
    }
}

/// What is known of a commit that was sent and failed, from a look at the key afterwards.
///
/// - The id holds the key: the commit was applied.
/// - Another id holds it. The key was free when it was read before the commit, and what has changed since
///   is a condition of that commit. So it is not applied any more; and had it been applied, its grant
///   was over before the other was made.
/// - The id was abandoned, so it holds nothing, now or in the future.
/// - No one holds it. A commit that was answered with a refusal was not applied. Any other may still be
///   in flight, for instance behind a transaction that another client keeps open.
fn resolve(failure: Failure, looked: Result<Standing, Failure>) -> Result<AcquireOutcome, Failure> {
    match looked {
        Ok(Standing::Settled(outcome)) => Ok(outcome),
        Ok(Standing::Free(_)) if failure.is_refusal() => Err(failure),
        Err(Failure::Abandoned) => Err(Failure::Abandoned),
        Ok(Standing::Free(_)) | Err(_) => Err(Failure::HalfDone(failure.into())),
    }
}

fn standing(
    store: &Store,
    request: &AcquireRequest,
    names: &Names,
    read: Read<[Option<Document>; 2]>,
) -> Result<Standing, Failure> {
    let Read { at: now, found: [lock, counter] } = read;
    let counter = counter.as_ref().map(Counter::parse);
    if counter.as_ref().is_some_and(|counter| counter.marks.has(request.lock_id)) {
        return Err(Failure::Abandoned);
    }
    let lock = lock.as_ref().map(Stored::parse).transpose()?;
    if let Some(stored) = &lock
        && let Some(outcome) = taken(store, request, names, stored, now)
    {
        return Ok(Standing::Settled(outcome));
    }
    let fence = next_fence(lock.as_ref(), counter.as_ref())?;
    refuse_unsafe(store)?;
    let versions = (lock.map(|lock| lock.version), counter.as_ref().map(|c| c.version));
    let mut marks = counter.map(|counter| counter.marks).unwrap_or_default();
    marks.prune(now);
    let (lock, counter) = (Expect::unchanged(versions.0), Expect::unchanged(versions.1));
    Ok(Standing::Free(Free { now, fence, marks, lock, counter }))
}

/// Tells whether somebody has the key, the caller itself included.
fn taken(
    store: &Store,
    request: &AcquireRequest,
    names: &Names,
    stored: &Stored,
    now: Timestamp,
) -> Option<AcquireOutcome> {
    let (own, live) = (stored.is_of(request.lock_id), stored.is_live(now));
    match (own, live) {
        (true, true) => {
            let known = Known {
                document: names.lock.clone(),
                version: stored.version,
                expires_at: stored.expires_at(),
            };
            store.grants.remember(request.lock_id, known);
            Some(AcquireOutcome::Granted(stored.grant()))
        }
        (false, true) => Some(AcquireOutcome::Contended { holder: Some(stored.holder(now)) }),
        // An id names one grant at the most, and this one had its.
        (true, false) => Some(AcquireOutcome::Contended { holder: None }),
        (false, false) => None,
    }
}

/// Gives the fence of the next grant.
///
/// A lock and its counter are written together, so a counter that is missing beside a lock, or is behind
/// it, was deleted or brought back from a copy. What it would count next may have been granted before.
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

/// Grants nothing while the wall clock is off, where that is to be refused.
fn refuse_unsafe(store: &Store) -> Result<(), Failure> {
    match store.client.clock.skew() {
        Some(skew) if store.unsafe_settings == UnsafeSettings::Refuse => {
            Err(Failure::Unsafe(check::setting(skew)))
        }
        _ => Ok(()),
    }
}

/// The writes of a grant.
fn grant_of(request: &AcquireRequest, names: &Names, free: Free, grant: Grant) -> Vec<Write> {
    let lock = lock_fields(request, grant, free.now);
    let counter = counter_fields(&request.key, grant.fence, free.marks);
    vec![
        Write::replace(&names.lock, lock, free.lock),
        Write::replace(&names.fence, counter, free.counter),
    ]
}

fn remember(
    store: &Store,
    request: &AcquireRequest,
    document: DocumentName,
    grant: Grant,
    committed: &Committed,
) {
    if let Some(version) = committed.versions.first() {
        let known = Known { document, version: *version, expires_at: grant.expires_at };
        store.grants.remember(request.lock_id, known);
    }
}
