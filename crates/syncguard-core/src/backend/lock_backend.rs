use std::future::{Future, pending};

use crate::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ErrorKind, ExtendOutcome, Finding,
    ListRequest, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef, Operation,
    ReleaseOutcome, Ttl,
};

/// A store that keeps locks.
///
/// A backend makes *single attempts*. Retries, waiting, renewal, cancellation and telemetry live
/// above it and are written once, in [`SyncGuard`](crate::SyncGuard). Six methods are required;
/// the others have defaults that are correct, if slower.
///
/// # What every backend guarantees
///
/// - **One holder.** At most one id holds a key in exclusive mode. A grant is *live* while
///   `expires_at > now - grace` on the clock that
///   [`capabilities`](Self::capabilities) names; while it is live, no other id is granted the key.
///   Past its expiry but within the grace, the holder may still extend or release.
/// - **Atomicity.** Each method decides and writes in one step that no other client's step can
///   divide. `now` is read inside that step, after every wait for a lock of the store's own.
/// - **Fences.** Each grant of a key has a higher [`Fence`](crate::Fence) than every grant before,
///   over release, expiry, deletion of the lock's record and restart. Contention uses up none.
///   A counter at [`Fence::LIMIT`](crate::Fence::LIMIT) refuses with
///   [`Internal`](ErrorKind::Internal) before anything is stored.
/// - **Ownership by id.** An id names at most one grant. `extend` and `release` act on the id alone.
///   A stale or a foreign id touches nobody's lock.
///
/// # Errors
///
/// Contention and lost ownership are outcomes. An [`Error`] tells that the attempt failed, by its
/// kind why, and by [`may_have_applied`](Error::may_have_applied) whether the store may have acted
/// on it all the same. A backend that is certain that it did not (nothing was sent, or the store
/// said so) marks the error with [`not_applied`](Error::not_applied).
///
/// # Cancel safety
///
/// Every future may be dropped at any await. The caller then knows nothing of the outcome, and the
/// lock layer calls [`abandon`](Self::abandon). A method must not need to be polled to its end to
/// leave the store in order: a half-done step is undone by the store itself.
///
/// # Time
///
/// A backend bounds each attempt by its own timeout if it can. The lock layer bounds it in any case
/// and treats what is cut off as unknown.
///
/// # Runtimes
///
/// A backend belongs to the runtime on which it was opened, and runs its operations there or on a
/// thread of its own, whichever runtime polls its futures: connections and timers belong to a runtime,
/// and no task of one runtime may hold what another needs. Where it needs a runtime around it all the
/// same, the lock layer provides one: the [configured](crate::SyncGuardBuilder::runtime) one, else that
/// of the caller, else the one on which the lock was acquired.
///
/// # Writing one
///
/// Implement the six, then run the contract suite on it (feature `contract`): a
/// `Harness` and `contract_tests!(YourHarness)`. The suite states each guarantee above as
/// named cases.
pub trait LockBackend: Send + Sync + 'static {
    /// Says what the backend can do. The answer never changes and costs nothing.
    fn capabilities(&self) -> Capabilities;

    /// Grants the key to the request's id, or says who has it.
    ///
    /// **Idempotent by lock id:** where the id already holds the key, the answer is the stored
    /// grant, with the same fence and expiry, and nothing is written. That is how a caller whose
    /// reply was lost finds out, so it must hold over restarts of either side.
    ///
    /// On contention nothing is written. An id that was [abandoned](Self::abandon) is refused with
    /// [`Aborted`](ErrorKind::Aborted), or finds the key contended where somebody else has it.
    fn acquire(
        &self,
        request: &AcquireRequest,
    ) -> impl Future<Output = Result<AcquireOutcome, Error>> + Send;

    /// Sets the grant's expiry to the store's now plus `ttl`, sooner or later than before, if the
    /// grant is live. Never revives one that is not, and never adds to what is left.
    fn extend(
        &self,
        lock: &LockRef,
        ttl: Ttl,
    ) -> impl Future<Output = Result<ExtendOutcome, Error>> + Send;

    /// Ends the grant if it is live. At most one release of a grant answers
    /// [`Released`](ReleaseOutcome::Released). The fence counter stays.
    fn release(&self, lock: &LockRef)
    -> impl Future<Output = Result<ReleaseOutcome, Error>> + Send;

    /// Reads a live lock; changes nothing. For diagnosis: the answer is old when it arrives, so
    /// never decide by it whether to acquire.
    fn lookup(
        &self,
        query: &LockQuery,
    ) -> impl Future<Output = Result<Option<LockRecord>, Error>> + Send;

    /// Makes sure that no grant under this id exists now **or later**, even if its acquire is still
    /// on its way. Called when the outcome of an acquire is unknown, and repeated until it answers.
    ///
    /// Typically it leaves a mark that `acquire` honours, then releases; or it orders itself after
    /// everything in flight. There is no default: a bare release would leave a late grant that
    /// nobody can release.
    fn abandon(
        &self,
        lock_id: LockId,
        key: &LockKey,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Tells whether anybody holds the key; reads only. For diagnosis, as [`lookup`](Self::lookup).
    fn is_locked(&self, key: &LockKey) -> impl Future<Output = Result<bool, Error>> + Send {
        async move { Ok(self.lookup(&key.clone().into()).await?.is_some()) }
    }

    /// Gives the live locks whose keys begin with a prefix, page by page, for operators. Locks that
    /// come and go meanwhile may be missed; one that stays is given once.
    ///
    /// The default answers [`Unsupported`](ErrorKind::Unsupported).
    fn list(&self, request: &ListRequest) -> impl Future<Output = Result<LockPage, Error>> + Send {
        let _ = request;
        async { Err(Error::new(ErrorKind::Unsupported, Operation::List)) }
    }

    /// Ends whatever live grant holds the key, on an operator's word, and gives its record. Its
    /// holder finds out at its next extend; its fence is below that of the next grant. `None` states that no
    /// one held the key.
    ///
    /// A record that cannot be read is cleared, but for its fence counter, and then the answer is
    /// [`Error::cleared`], which names what could not be read. `Ok` would pass for a lock that was looked at, or
    /// for a key that no one held. The error states that the key is free, by
    /// [`has_applied`](Error::has_applied), so that no one takes it for a failure to free it.
    ///
    /// The default answers [`Unsupported`](ErrorKind::Unsupported).
    fn force_release(
        &self,
        key: &LockKey,
    ) -> impl Future<Output = Result<Option<LockRecord>, Error>> + Send {
        let error = Error::new(ErrorKind::Unsupported, Operation::ForceRelease).with_key(key);
        async { Err(error) }
    }

    /// Resolves when the key *may* have become free. It may resolve for no reason.
    ///
    /// The first poll subscribes: a release that begins after it is not missed. A backend whose
    /// subscription takes time to come up resolves once when it is up, because a release may have
    /// slipped through until then. It never fails; where the store does not answer, it resolves
    /// late or never, and the caller's schedule takes over.
    ///
    /// The default never resolves.
    fn released(&self, key: &LockKey) -> impl Future<Output = ()> + Send {
        let _ = key;
        pending()
    }

    /// Looks at the store's own settings and reports those that would break a promise.
    ///
    /// The default finds nothing, which is right where there is nothing to set.
    fn check(&self) -> impl Future<Output = Result<Vec<Finding>, Error>> + Send {
        async { Ok(Vec::new()) }
    }
}
