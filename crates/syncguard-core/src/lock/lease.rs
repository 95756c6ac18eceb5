use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    cleanup::{Action, Cleanup},
    shared::Shared,
    validity::{End, Loss, Validity},
};
use crate::{
    AcquireRequest, Error, ErrorKind, ExtendOutcome, Fence, Grant, LockBackend, LockId, LockKey,
    LockRef, Operation, Timestamp, Ttl,
};

/// How long the wait for a loss sleeps at a stretch. Timers stand still while the machine sleeps
/// and the boot clock does not, so this is how late a loss during a suspend is noticed on waking.
const STRETCH: Duration = Duration::from_secs(1);

/// A handle on a held lock: what one may know of it and do with it short of giving it back.
///
/// Cheap to clone; all clones speak of the same grant, and none keeps it alive. The
/// [`LockGuard`](crate::LockGuard) dereferences to it, and `run` hands it to the work.
///
/// **Guarantees:** once it says that the lock is lost, it says so for ever. It notices the loss by
/// the local boot clock, no later than a margin (5 % of the ttl, at least 50 ms) before the store
/// may grant the key to somebody else, whether or not the store can be reached.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    runtime: Handle,
    key: LockKey,
    lock_id: LockId,
    fence: Fence,
    state: Mutex<State>,
    ended: CancellationToken,
    /// One extend at a time: two on their way could overtake each other and shorten the lease.
    extending: tokio::sync::Mutex<()>,
}

struct State {
    validity: Validity,
    expires_at: Timestamp,
}

impl Lease {
    pub(crate) fn new(
        shared: Arc<Shared>,
        runtime: Handle,
        request: &AcquireRequest,
        grant: Grant,
        validity: Validity,
    ) -> Self {
        Self(Arc::new(Inner {
            shared,
            runtime,
            key: request.key.clone(),
            lock_id: request.lock_id,
            fence: grant.fence,
            state: Mutex::new(State { validity, expires_at: grant.expires_at }),
            ended: CancellationToken::new(),
            extending: tokio::sync::Mutex::new(()),
        }))
    }

    /// Returns the fence of the grant, to be checked at the resource.
    ///
    /// # Errors
    ///
    /// [`Lost`](ErrorKind::Lost) once the lock is not held any more: a fence that is no longer
    /// current must not be given to anybody by mistake.
    pub fn fence(&self) -> Result<Fence, Error> {
        self.held().map(|_| self.0.fence).ok_or_else(|| self.lost_error())
    }

    /// Returns the key.
    pub fn key(&self) -> &LockKey {
        &self.0.key
    }

    /// Returns the id that proves ownership.
    pub fn lock_id(&self) -> LockId {
        self.0.lock_id
    }

    /// Returns when the grant ends unless it is extended, on the store's clock.
    pub fn expires_at(&self) -> Timestamp {
        self.state().expires_at
    }

    /// Returns how long the lock can still be relied upon without an extend, zero once it is lost
    /// or given back. It ends a margin before the store's expiry.
    pub fn remaining(&self) -> Duration {
        self.held().unwrap_or_default()
    }

    /// Tells whether the lock is held, by the local boot clock; asks nobody.
    ///
    /// It is false at the first call after the process was stopped, or the machine slept, past the
    /// deadline.
    pub fn is_valid(&self) -> bool {
        self.held().is_some()
    }

    /// Returns how the lock was lost, `None` while it is held or where it was given back.
    pub fn loss(&self) -> Option<Loss> {
        match self.end() {
            Some(End::Lost(loss)) => Some(loss),
            Some(End::Given) | None => None,
        }
    }

    /// Resolves as soon as the lock is not held any more, for whatever reason.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be dropped and called again.
    pub async fn lost(&self) {
        while let Some(remaining) = self.held() {
            tokio::select! {
                () = self.0.ended.cancelled() => return,
                () = tokio::time::sleep(remaining.min(STRETCH)) => {}
            }
        }
    }

    /// Sets the expiry to the store's now plus `ttl`, sooner or later than before. Renewals go on
    /// with this ttl.
    ///
    /// One extend is on its way at a time; this one waits for a renewal that is.
    ///
    /// # Errors
    ///
    /// [`Lost`](ErrorKind::Lost) where the lock is not held any more, before or after asking;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a ttl that is none; or why the store did
    /// not answer, in which case the lock is still held until its deadline and the call may be
    /// repeated.
    ///
    /// # Cancel safety
    ///
    /// Dropped while its request is on its way, the extend may or may not apply. The lease then
    /// counts on the shorter of the two ttls.
    pub async fn extend(&self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Result<(), Error> {
        let ttl = ttl.try_into().map_err(Into::into)?;
        self.extend_within(ttl, Duration::MAX).await
    }

    /// Extends with at most `limit` for the request, if that is shorter than any request may take.
    pub(crate) async fn extend_within(&self, ttl: Ttl, limit: Duration) -> Result<(), Error> {
        let limit = limit.min(self.0.shared.request_timeout);
        let _alone = self.0.extending.lock().await;
        self.fence()?;
        let sent = self.0.shared.clock.now();
        self.state().validity.extending(sent, ttl);
        let lock = self.lock_ref();
        let request = self.0.shared.backend.extend(&lock, ttl);
        match self.0.shared.bounded(Operation::Extend, limit, request).await {
            Ok(ExtendOutcome::Extended { expires_at }) => {
                let mut state = self.state();
                state.expires_at = expires_at;
                state.validity.extended(sent, ttl, self.0.shared.clock.now());
            }
            Ok(ExtendOutcome::NotHeld(_)) => self.end_with(End::Lost(Loss::NotHeld)),
            Err(error) => {
                if !error.may_have_applied() {
                    self.state().validity.extend_settled();
                }
                return Err(error.with_key(self.key()).with_lock_id(self.lock_id()));
            }
        }
        self.fence().map(drop)
    }

    /// Returns the ttl that renewals ask for.
    pub(crate) fn ttl(&self) -> Ttl {
        self.state().validity.ttl()
    }

    /// Returns the ttl by which renewals are timed.
    pub(crate) fn pace(&self) -> Duration {
        self.state().validity.pace()
    }

    /// Ends the lease, unless it has ended before.
    pub(crate) fn end_with(&self, end: End) {
        // By the clock first: a lease that ran out unnoticed was lost, not given back.
        if self.end().is_none() {
            self.state().validity.end(end);
            self.announce(end);
        }
    }

    pub(crate) fn lock_ref(&self) -> LockRef {
        LockRef::new(self.lock_id(), self.key().clone())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Leaves the release to a background task.
    pub(crate) fn release_later(&self) {
        let (key, lock_id, ttl) = (self.key().clone(), self.lock_id(), self.ttl());
        let cleanup = Cleanup { key, lock_id, ttl, action: Action::Release };
        self.0.shared.clean_up(self.runtime(), cleanup);
    }

    /// Returns the error that tells why the lock is not held.
    pub(crate) fn lost_error(&self) -> Error {
        let why =
            self.loss().map_or_else(|| "it was given back".to_owned(), |loss| loss.to_string());
        Error::new(ErrorKind::Lost, Operation::Hold)
            .with_key(self.key())
            .with_lock_id(self.lock_id())
            .with_detail(why)
    }

    /// Returns the time left, `None` where the lock is not held.
    fn held(&self) -> Option<Duration> {
        let remaining = self.state().validity.remaining(self.0.shared.clock.now());
        remaining.inspect_err(|end| self.announce(*end)).ok()
    }

    fn end(&self) -> Option<End> {
        let end = self.state().validity.end_by(self.0.shared.clock.now());
        end.inspect(|end| self.announce(*end))
    }

    /// Wakes whoever waits for the end, once.
    fn announce(&self, end: End) {
        if self.0.ended.is_cancelled() {
            return;
        }
        self.0.ended.cancel();
        if let End::Lost(loss) = end {
            tracing::warn!(key = %self.key(), lock_id = %self.lock_id(), %loss, "lock lost");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the state is locked, so it is whole even if poisoned.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.key())
            .field("lock_id", &self.lock_id())
            .field("fence", &self.0.fence)
            .field("valid", &self.is_valid())
            .finish_non_exhaustive()
    }
}
