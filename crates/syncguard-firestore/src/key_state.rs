//! The state of a key, and whether it is free for a request.

use syncguard_core::{
    Fence, Holder, Timestamp, Ttl, UnsafeSettings,
    backend::{AcquireRequest, Admission, Announcement, Grant},
};

use crate::{
    client::{Document, Expect, Read, Version},
    error::Failure,
    record::{Counter, Stored, Tombstones},
    recount::stored_may_be_too_early,
    sharing::Sharing,
    store::Store,
};

/// The state of a key when it was read, as it concerns a request.
pub(crate) enum KeyState {
    Free(Free),
    /// The id holds it.
    Own(Own),
    /// It is not free. An announcement is to be written nevertheless.
    Contended(Option<Holder>, Option<Announce>),
}

/// A key that can be granted.
pub(crate) struct Free {
    pub(crate) now: Timestamp,
    pub(crate) fence: Fence,
    pub(crate) tombstones: Tombstones,
    /// The holders that the grant joins, if the request is in shared mode.
    pub(crate) sharing: Option<Sharing>,
    /// What the commit expects of the lock and of the counter: their state when they were read.
    pub(crate) lock: Expect,
    pub(crate) counter: Expect,
}

/// The grant that the id has on record.
pub(crate) struct Own {
    pub(crate) grant: Grant,
    pub(crate) version: Version,
    /// Whether its expiry may be counted from too early a time.
    pub(crate) may_be_too_early: bool,
}

/// The announcement of a request that is refused because of readers, and the versions of the lock
/// and of the counter on which it rests.
pub(crate) struct Announce {
    pub(crate) announcement: Announcement,
    pub(crate) lock: Version,
    pub(crate) counter: Version,
}

/// Determines the state of a key from its two documents.
pub(crate) fn key_state(
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
    let sharing = lock.as_ref().and_then(Stored::sharing);
    let taken = match (&lock, sharing) {
        (None, _) => None,
        (Some(stored), None) => exclusive(request, stored, counter.as_ref(), now)?,
        (Some(stored), Some(sharing)) if request.mode.is_shared() => {
            shared(request, (stored, sharing), counter.as_ref(), now)?
        }
        (Some(stored), Some(sharing)) => {
            behind_readers(request, (stored, sharing), counter.as_ref(), now)
        }
    };
    if let Some(taken) = taken {
        return Ok(taken);
    }
    let last = last_fence(lock.as_ref(), counter.as_ref())?;
    let fence = match counter {
        None if request.is_uncounted(last) => Fence::ZERO,
        _ => store.counters.next(last, now).ok_or(Failure::FenceLimit)?,
    };
    reject_unsafe(store)?;
    let sharing = match sharing {
        _ if !request.mode.is_shared() => None,
        Some(sharing) => Some(sharing.clone()),
        None => Some(Sharing::new(request.key.clone())?),
    };
    let versions = (lock.map(|lock| lock.version), counter.as_ref().map(|c| c.version));
    let mut tombstones = counter.map(Counter::tombstones).transpose()?.unwrap_or_default();
    tombstones.prune(now);
    let (lock, counter) = (Expect::unchanged(versions.0), Expect::unchanged(versions.1));
    Ok(KeyState::Free(Free { now, fence, tombstones, sharing, lock, counter }))
}

/// Returns the state of a key that was last held exclusively, unless it is free. Its holder, too,
/// is refused it in shared mode.
fn exclusive(
    request: &AcquireRequest,
    stored: &Stored,
    counter: Option<&Counter>,
    now: Timestamp,
) -> Result<Option<KeyState>, Failure> {
    let is_own = stored.is_of(request.lock_id) && !request.mode.is_shared();
    Ok(match (is_own, stored.is_live(now)) {
        (true, true) if is_confirmed(stored, counter, request.ttl) => Some(KeyState::Own(Own {
            grant: stored.grant(),
            version: stored.version,
            may_be_too_early: stored.is_unextended(request.ttl)
                && stored_may_be_too_early(stored.acquired_at(), stored.version.time()),
        })),
        (true, true) => return Err(Failure::HalfGranted),
        (false, true) => Some(KeyState::Contended(Some(stored.holder(now)), None)),
        // An id names at most one grant, and this one had its grant.
        (true, false) => Some(KeyState::Contended(None, None)),
        (false, false) => None,
    })
}

/// Returns the state of a key with readers to a request in shared mode, unless it is admitted.
fn shared(
    request: &AcquireRequest,
    (stored, sharing): (&Stored, &Sharing),
    counter: Option<&Counter>,
    now: Timestamp,
) -> Result<Option<KeyState>, Failure> {
    let grant = match sharing.holders.admit(request.lock_id, request.mode, now)? {
        Admission::Admitted => return Ok(None),
        Admission::Refused(holder) => return Ok(Some(KeyState::Contended(Some(holder), None))),
        Admission::Held(grant) => grant,
    };
    // Other readers change the lock at any time, so its version does not tell when this grant was
    // made. Only grants and abandons change the counter: as long as this grant is the last one, the
    // counter was changed with it, or by an abandon after it.
    let last = counter.and_then(|counter| Some((counter.fence().ok()?, counter.version)));
    let Some((last, made)) = last.filter(|(last, _)| *last >= grant.fence) else {
        return Err(Failure::HalfGranted);
    };
    let acquired_at = sharing.holder(request.lock_id).map(|holder| holder.acquired_at);
    let may_be_too_early = acquired_at.is_some_and(|acquired_at| {
        last == grant.fence
            && grant.expires_at == acquired_at.after(request.ttl)
            && stored_may_be_too_early(acquired_at, made.time())
    });
    Ok(Some(KeyState::Own(Own { grant, version: stored.version, may_be_too_early })))
}

/// Returns the state of a key to a request in exclusive mode, unless its readers are gone.
fn behind_readers(
    request: &AcquireRequest,
    (stored, sharing): (&Stored, &Sharing),
    counter: Option<&Counter>,
    now: Timestamp,
) -> Option<KeyState> {
    if !sharing.holders.is_held(now) {
        return None;
    }
    let holder = sharing.holders.holder(request.mode, now);
    // Without a counter, no grant is made that could be kept out.
    let announce = request.announce.zip(counter).and_then(|(announce, counter)| {
        let (lock_id, until) = (request.lock_id, now.later_by(announce));
        let announcement = Announcement { lock_id, until };
        let is_new = sharing.holders.clone().announce(lock_id, until);
        let versions = (stored.version, counter.version);
        is_new.then_some(Announce { announcement, lock: versions.0, counter: versions.1 })
    });
    Some(KeyState::Contended(Some(holder), announce))
}

/// Returns whether the counter confirms the grant that the lock shows.
///
/// A grant writes both in one commit, and nothing decrements a counter. So the counter has the
/// fence, or a higher one, and was changed with the lock or later: an abandon of another id changes
/// it again. If a server applied a commit in part, or the lock was written by hand, only the lock
/// claims that its fence was granted. The counter, which was changed before, may have granted the
/// same fence to another holder. Once a grant was extended, its lock has a later version, and the
/// client that extended it had received the grant.
///
/// A grant under fence 0 was made without a counter. No fence could be granted twice.
fn is_confirmed(stored: &Stored, counter: Option<&Counter>, ttl: Ttl) -> bool {
    stored.fence() == Fence::ZERO
        || counter.is_some_and(|counter| {
            let has_fence = counter.fence().is_ok_and(|last| last >= stored.fence());
            has_fence && (counter.version >= stored.version || !stored.is_unextended(ttl))
        })
}

/// Returns the fence of the last grant, if there is a counter.
///
/// A lock and its counter are written together. So a counter that is missing beside a lock, or is
/// behind it, was deleted or restored from a copy. Its next value may have been granted before. Only
/// a lock with fence 0, that of a claim, has no counter.
fn last_fence(lock: Option<&Stored>, counter: Option<&Counter>) -> Result<Option<Fence>, Failure> {
    match (lock, counter) {
        (Some(lock), None) if lock.fence() != Fence::ZERO => {
            Err(Failure::FenceLost("the fence counter of a lock is missing"))
        }
        (_, None) => Ok(None),
        (lock, Some(counter)) => {
            let last = counter.fence()?;
            if lock.is_some_and(|lock| last < lock.fence()) {
                return Err(Failure::FenceLost("the fence counter is behind the last grant"));
            }
            Ok(Some(last))
        }
    }
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
