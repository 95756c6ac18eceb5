use std::{fmt, ops::Deref, time::Duration};

use super::{
    lease::Lease,
    renewal::{self, Renew},
    validity::{End, Loss},
};
use crate::{Error, Holder, LockBackend, Operation, ReleaseOutcome};

/// Holds a lock; dropping it releases the lock in the background.
///
/// It dereferences to its [`Lease`], which tells the fence, the time left and the loss.
///
/// **Guarantees:** dropping never blocks, never panics and needs no runtime around it. Where the
/// store cannot be reached, the release is tried until the ttl and a second are over; then the
/// grant has ended by itself. A failure reaches
/// [`on_release_error`](crate::SyncGuardBuilder::on_release_error) and `tracing`.
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct LockGuard {
    lease: Lease,
    armed: bool,
}

/// How a single attempt ended.
#[derive(Debug)]
#[must_use = "a guard that is dropped releases its lock"]
pub enum TryAcquire {
    /// The lock is held.
    Acquired(LockGuard),
    /// Somebody else holds it; what is known of them.
    Contended(Option<Holder>),
}

impl TryAcquire {
    /// Returns the guard, or `None` where somebody else holds the lock.
    pub fn acquired(self) -> Option<LockGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Contended(_) => None,
        }
    }
}

impl LockGuard {
    pub(crate) fn new(lease: Lease, renew: Renew, max_hold: Option<Duration>) -> Self {
        renewal::start(&lease, renew, max_hold);
        Self { lease, armed: true }
    }

    /// Returns a handle that may outlive the guard; it does not keep the lock.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Releases the lock and waits until the store has answered.
    ///
    /// [`NotHeld`](ReleaseOutcome::NotHeld) tells that the lock had run out or been taken away
    /// before; nobody else's lock was touched.
    ///
    /// # Errors
    ///
    /// Why the store did not answer. A background task goes on trying, so there is nothing to
    /// repeat.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn release(self) -> Result<ReleaseOutcome, Error> {
        let lease = self.disarm();
        let (shared, runtime) = (lease.shared().clone(), lease.runtime().clone());
        shared.detached(&runtime, release(lease)).await
    }

    /// Keeps the lock until its ttl is over, and gives up renewing it. For rate limits and for
    /// doing something once.
    pub fn keep(self) {
        self.disarm();
    }

    /// Ends the lease here and takes the duty to release from the drop.
    fn disarm(mut self) -> Lease {
        self.armed = false;
        self.lease.end_with(End::Given);
        self.lease.clone()
    }
}

async fn release(lease: Lease) -> Result<ReleaseOutcome, Error> {
    let (shared, lock) = (lease.shared(), lease.lock_ref());
    let request = shared.backend.release(&lock);
    let answer = shared.bounded(Operation::Release, shared.request_timeout, request).await;
    match answer {
        Ok(_) => shared.queues.freed(lease.key()),
        Err(_) => lease.release_later(),
    }
    answer.map_err(|error| error.with_key(lease.key()).with_lock_id(lease.lock_id()))
}

impl Deref for LockGuard {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.armed {
            self.lease.end_with(End::Given);
            // Where the store itself said that the lock is gone, there is nothing to release.
            if self.lease.loss() != Some(Loss::NotHeld) {
                self.lease.release_later();
            }
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(&self.lease).finish()
    }
}
