//! Granting.

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Fence, Grant, Mode, Timestamp, UnsafeSettings,
};
use tokio::time::sleep;

use crate::{
    backend::Store,
    check,
    client::{Committed, Document, Expect, Read, Write},
    error::Failure,
    grants::Known,
    layout::DocumentName,
    record::{Counter, Marks, Stored, counter_fields, lock_fields},
    retry::pauses,
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
    let mut pauses = pauses();
    loop {
        let read = store.client.read([&names.lock, &names.fence]).await?;
        let free = match standing(store, request, &names, read)? {
            Standing::Free(free) => free,
            Standing::Settled(outcome) => return Ok(outcome),
        };
        let grant = Grant { fence: free.fence, expires_at: free.now.after(request.ttl) };
        let written = grant_of(request, &names, free, grant);
        if let Some(committed) = store.client.commit(written).await? {
            remember(store, request, names.lock, grant, &committed);
            return Ok(AcquireOutcome::Granted(grant));
        }
        // Somebody was faster. The next look tells who.
        match pauses.next() {
            Some(pause) => sleep(pause).await,
            None => return Ok(AcquireOutcome::Contended { holder: None }),
        }
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
