use std::time::Duration;

use syncguard::{
    BootClock, BootInstant, Clock, ErrorKind, Fence, LockGuard, LockId, Loss, ReleaseOutcome, Ttl,
};

use crate::{Outcome, peer::Peer};

/// A lock that is held by this client, or by a TypeScript-like one.
pub(crate) enum Grant<'a> {
    Ours(LockGuard),
    Theirs(PeerGrant<'a>),
}

/// A lock that a TypeScript-like client holds until its expiry.
pub(crate) struct PeerGrant<'a> {
    pub(crate) peer: &'a mut Peer,
    pub(crate) id: LockId,
    pub(crate) fence: Fence,
    pub(crate) until: BootInstant,
}

/// What the store answered to an extend or a release.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The lock was held.
    Held,
    /// The lock was not held, although the lease was valid.
    NotHeld,
    /// The lease has ended, or the answer is not known.
    Unknown,
}

impl Grant<'_> {
    /// Returns the fence of the lock, `None` if it is lost.
    pub(crate) fn fence(&self) -> Option<Fence> {
        match self {
            Self::Ours(guard) => guard.fence().ok(),
            Self::Theirs(grant) => self.is_valid().then_some(grant.fence),
        }
    }

    /// Returns whether the lock is certainly held.
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Ours(guard) => guard.is_valid(),
            Self::Theirs(grant) => BootClock.now() < grant.until,
        }
    }

    /// Returns for how long the lock is certainly held.
    pub(crate) fn remaining(&self) -> Duration {
        match self {
            Self::Ours(guard) => guard.remaining(),
            Self::Theirs(grant) => grant.until.since(BootClock.now()),
        }
    }

    /// Extends the lock. One that has expired is not extended, nor that of another client.
    pub(crate) async fn extend(&self, ttl: Ttl) -> Outcome<Answer> {
        let Self::Ours(guard) = self else { return Ok(Answer::Unknown) };
        match guard.extend(ttl).await {
            // Such a loss is noticed only within the lease, and otherwise the lease has expired.
            Err(_) if guard.loss() == Some(Loss::NotHeld) => Ok(Answer::NotHeld),
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::Lost => {
                Ok(Answer::Unknown)
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Answer::Held),
        }
    }

    /// Releases the lock. If that is reported as not held before the lease ends, which is before
    /// the grant can expire, the store has lost the grant. A process that was stopped meanwhile
    /// receives the reply too late for that.
    pub(crate) async fn release(self) -> Outcome<Answer> {
        let until = BootClock.now() + self.remaining();
        let is_released = match self {
            Self::Ours(guard) => match guard.release().await {
                Ok(outcome) => outcome == ReleaseOutcome::Released,
                Err(error) if error.is_retryable() => return Ok(Answer::Unknown),
                Err(error) => return Err(error.into()),
            },
            Self::Theirs(PeerGrant { peer, id, .. }) => peer.release(id).await,
        };
        Ok(match is_released {
            true => Answer::Held,
            false if BootClock.now() < until => Answer::NotHeld,
            false => Answer::Unknown,
        })
    }
}
