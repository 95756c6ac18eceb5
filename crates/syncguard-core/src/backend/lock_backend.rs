use std::future::{Future, pending};

use crate::{
    Error, ErrorKind, LockId, LockKey, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockPage, LockQuery, LockRecord, LockRef, RetirePage, RetireRequest,
    },
};

/// Performs single lock operations on one store.
///
/// A backend makes *single attempts*. Retries, waiting, renewal, cancellation and telemetry are
/// implemented once, above all backends, in [`LockManager`](crate::LockManager). Six methods are
/// required. The others have defaults that are correct, but may be slower.
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
///   across release, expiry, deletion of the lock's record, [retirement](Self::retire_counters) of
///   the counter, and restart. Contention does not consume a fence. If the counter is at [`Fence::LIMIT`](crate::Fence::LIMIT), an acquire fails with
///   [`Internal`](ErrorKind::Internal) before anything is stored.
/// - **Ownership by id.** An id names at most one grant. `extend` and `release` act on the id
///   alone. A stale or foreign id affects no other holder's lock.
///
/// # Shared mode
///
/// A backend whose capabilities include `shared` also guarantees the following. The others return
/// [`Unsupported`](ErrorKind::Unsupported) for a request in [shared mode](crate::backend::Mode).
///
/// - **Never beside a writer.** While an exclusive grant is live, no shared grant of the key is
///   made, and the reverse. An id that holds the key in one mode is refused it in the other.
/// - **Permits.** Shared grants that are live at the same time have the same number of permits, and
///   are at most as many as that. A request with another number fails with
///   [`permits_differ`](crate::backend::permits_differ).
/// - **Holders end one by one.** Each shared grant has its own id, expiry, owner and fence. Extend,
///   release, abandon and a repeated acquire apply to it alone.
/// - **The head.** The record of the key in the common format shows the key as held for as long as
///   any shared grant is live, so that a client that knows only exclusive locks is refused.
/// - **Announcements.** An exclusive request with an
///   [announcement](crate::backend::AcquireRequest::announce) that is refused because of shared
///   grants keeps new shared grants from being made until that time has passed, the id is
///   abandoned, or an exclusive grant is made. One announcement stands for a key at a time; one
///   that ends later replaces it. It affects neither exclusive requests, nor grants that exist, nor
///   what a lookup returns, and it stays when the last shared holder leaves. If it ends early,
///   waiters are notified.
/// - **Notifications.** [`released`](Self::released) completes when the last shared holder leaves,
///   and when a permit becomes free.
///
/// [`SharedHolders`](crate::backend::SharedHolders) implements these rules for a backend that
/// decides in Rust.
///
/// # Errors
///
/// Contention and lost ownership are outcomes. An [`Error`] means that the attempt failed. Its kind
/// is the reason, and [`may_have_applied`](Error::may_have_applied) returns whether the store may
/// have acted on the request nevertheless. A backend that is certain that the store did not
/// (nothing was sent, or the store reported so) sets [`not_applied`](Error::not_applied) on the
/// error.
///
/// # Cancel safety
///
/// Every future may be dropped at any await. The outcome is then unknown to the caller, and the
/// lock layer calls [`abandon`](Self::abandon). The store must be left in order even if a method is
/// not polled to its end: the store itself undoes a half-done step.
///
/// # Time
///
/// A backend bounds each attempt by its own timeout if it can. The lock layer bounds it in any case
/// and treats the outcome of a cancelled attempt as unknown.
///
/// # Runtimes
///
/// A backend belongs to the runtime on which it was opened. It runs its operations there or on its
/// own thread, whichever runtime polls its futures: connections and timers belong to a runtime, and
/// no task of one runtime may hold what another needs. If a future of the backend needs a current
/// runtime nevertheless, the lock layer provides one: the
/// [configured](crate::LockManagerBuilder::runtime) one, else that of the caller, else the one on
/// which the lock was acquired.
///
/// # Writing one
///
/// Implement the six methods, then run the contract suite on the backend (feature `contract`): a
/// `Harness` and `contract_tests!(YourHarness)`. The suite tests each guarantee above with named
/// cases.
pub trait LockBackend: Send + Sync + 'static {
    /// Returns the capabilities of the backend. The result never changes and costs nothing.
    fn capabilities(&self) -> Capabilities;

    /// Grants the key to the request's id, or returns the current holder.
    ///
    /// **Idempotent by lock id:** if the id already holds the key, the method returns the stored
    /// grant, with the same fence and expiry, and writes nothing. A caller whose reply was lost
    /// learns the outcome this way, so this must hold across restarts of either side.
    ///
    /// On contention nothing is written but the request's announcement and the place of a waiter in
    /// [line](Self::turn). For an id that was [abandoned](Self::abandon), the method
    /// fails with [`Aborted`](ErrorKind::Aborted), or reports contention if another holder has the
    /// key.
    fn acquire(
        &self,
        request: &AcquireRequest,
    ) -> impl Future<Output = Result<AcquireOutcome, Error>> + Send;

    /// Sets the grant's expiry to the store's current time plus `ttl`, sooner or later than before,
    /// if the grant is live. Never revives a grant that is not live, and never adds to the time
    /// left.
    fn extend(
        &self,
        lock: &LockRef,
        ttl: Ttl,
    ) -> impl Future<Output = Result<ExtendOutcome, Error>> + Send;

    /// Ends the grant if it is live, and only that grant: other shared holders keep theirs. At most
    /// one release of a grant returns
    /// [`Released`](ReleaseOutcome::Released). The fence counter stays.
    fn release(&self, lock: &LockRef)
    -> impl Future<Output = Result<ReleaseOutcome, Error>> + Send;

    /// Reads a live lock; changes nothing. The id of a shared grant finds the record of its key,
    /// with all holders. For diagnosis: the result may be out of date when it
    /// arrives, so never decide by it whether to acquire.
    fn lookup(
        &self,
        query: &LockQuery,
    ) -> impl Future<Output = Result<Option<LockRecord>, Error>> + Send;

    /// Guarantees that `lock_id` holds no lock, now **or in the future**, even if an acquire for it
    /// is still in flight, and removes its announcement. Called when the outcome of an acquire is unknown, and repeated until it
    /// succeeds.
    ///
    /// A typical implementation writes a tombstone that `acquire` honours, then releases; or it
    /// orders itself after everything in flight. There is no default: a bare release would leave a
    /// late grant that no one can release.
    fn abandon(
        &self,
        lock_id: LockId,
        key: &LockKey,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Returns whether any holder has the key; reads only. For diagnosis, as
    /// [`lookup`](Self::lookup).
    fn is_locked(&self, key: &LockKey) -> impl Future<Output = Result<bool, Error>> + Send {
        async move { Ok(self.lookup(&key.clone().into()).await?.is_some()) }
    }

    /// Returns the live locks whose keys begin with a prefix, page by page, for operators. Locks
    /// that are acquired or released meanwhile may be missed; a lock that stays is returned once.
    ///
    /// The default returns [`Unsupported`](ErrorKind::Unsupported).
    fn list(&self, request: &ListRequest) -> impl Future<Output = Result<LockPage, Error>> + Send {
        let _ = request;
        async { Err(Error::new(ErrorKind::Unsupported)) }
    }

    /// Ends any live grant of the key, at an operator's request, and returns its record; in shared
    /// mode, it ends all of them and any announcement. The holder finds out at its next extend; its fence is below that of the next grant. Returns `None` if
    /// no one held the key.
    ///
    /// A record that cannot be read is cleared, except for its fence counter, and the method
    /// returns [`Error::cleared`], which names the unreadable part. `Ok` would suggest that the
    /// lock was read, or that no one held the key. The error reports through
    /// [`has_applied`](Error::has_applied) that the key is free, so that it is not mistaken for a
    /// failure to free it.
    ///
    /// The default returns [`Unsupported`](ErrorKind::Unsupported).
    fn force_release(
        &self,
        key: &LockKey,
    ) -> impl Future<Output = Result<Option<LockRecord>, Error>> + Send {
        let _ = key;
        async { Err(Error::new(ErrorKind::Unsupported)) }
    }

    /// Deletes the fence counters of keys that no one holds and that were not granted for a time: one
    /// bounded step, which decides on each counter and deletes it atomically. A counter that is
    /// being used meanwhile may be left to a later call.
    ///
    /// Only a backend that was configured to seed its counters does so, because only a
    /// [seeded](crate::backend::Counters::Seeded) counter that was retired never repeats a fence. The
    /// others fail as [`Counters::require_seeded`](crate::backend::Counters::require_seeded) does.
    ///
    /// The default returns [`Unsupported`](ErrorKind::Unsupported).
    fn retire_counters(
        &self,
        request: &RetireRequest,
    ) -> impl Future<Output = Result<RetirePage, Error>> + Send {
        let _ = request;
        async { Err(Error::new(ErrorKind::Unsupported)) }
    }

    /// Completes when the key *may* have become free. It may complete spuriously.
    ///
    /// The first poll subscribes: a release that begins after it is not missed. A backend whose
    /// subscription takes time to start completes once when the subscription is active, because a
    /// release may have been missed until then. The future never fails. If the store does not
    /// answer, it completes late or never, and the caller's schedule takes over.
    ///
    /// The default never completes.
    fn released(&self, key: &LockKey) -> impl Future<Output = ()> + Send {
        let _ = key;
        pending()
    }

    /// Completes when a waiter for the key should request it again. It may complete spuriously.
    ///
    /// A store that keeps its waiters in line notifies the first of them of a release, and the
    /// others continue to wait. Whoever is not notified in time, because a notification was lost or
    /// its receiver has died, is woken by the caller's schedule.
    ///
    /// The same applies to the first poll as for [`released`](Self::released), which is the default:
    /// every waiter is notified of every release.
    fn turn(&self, key: &LockKey) -> impl Future<Output = ()> + Send {
        self.released(key)
    }

    /// Returns whether a waiter that has polled [`turn`](Self::turn) would be notified if the
    /// holder released the key now. It sends no request, and is called on the runtime on which
    /// `turn` is polled.
    ///
    /// While it returns `true`, waiters make fewer attempts on their schedule, because these only
    /// cover the loss of a notification (see [`Retry`](crate::Retry)). It returns `false` as long as
    /// the subscription is not active.
    ///
    /// The default returns `false`, which is correct, if slower for a store that notifies.
    fn is_subscribed(&self, key: &LockKey) -> bool {
        let _ = key;
        false
    }

    /// Checks the store's own settings and returns those that would break a guarantee.
    ///
    /// The default returns no findings, which is correct if there is nothing to configure.
    fn check(&self) -> impl Future<Output = Result<Vec<Finding>, Error>> + Send {
        async { Ok(Vec::new()) }
    }
}
