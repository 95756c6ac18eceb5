use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use tokio::task::coop::unconstrained;

use super::{
    acquisition::contended,
    guard::LockGuard,
    join,
    renewal::{self, Renew},
};
use crate::{Error, ReleaseOutcome};

/// The keys of a set that were taken so far, in order. Dropping it releases them in the background.
///
/// **Invariant:** while a later key is waited for, those already taken are renewed, *in place*: by
/// the future that waits, not by tasks. A caller that stops polling, but does not drop the future,
/// therefore keeps them for one ttl and not for ever. If no key is waited for, there are no
/// renewals, so a set of free keys costs its acquires.
pub(super) struct Taken {
    /// Those of the first guards. The others are added when their first wait begins.
    renewals: Vec<Renewal>,
    renew: Renew,
    guards: Vec<LockGuard>,
}

/// The renewals of one lease; completes when it is lost.
type Renewal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A key was lost before the last key of its set was granted; contains its position.
pub(super) struct TakenLost(usize);

impl Taken {
    pub(super) fn new(keys: usize, renew: Option<Renew>) -> Self {
        let renew = renew.filter(|renew| *renew != Renew::Never).unwrap_or(Renew::Auto);
        Self { renewals: Vec::new(), renew, guards: Vec::with_capacity(keys) }
    }

    pub(super) fn len(&self) -> usize {
        self.guards.len()
    }

    pub(super) fn push(&mut self, guard: LockGuard) {
        self.guards.push(guard);
    }

    /// Completes with `next`, or when a taken key is lost before that. `next` is not polled any more
    /// then. It is passed pinned, because it is large and would be copied.
    pub(super) async fn renewed_during<F: Future>(
        &mut self,
        mut next: Pin<&mut F>,
    ) -> Result<F::Output, TakenLost> {
        poll_fn(|context| {
            if let Poll::Ready(output) = next.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            self.add_renewals();
            let lost = |renewal: &mut Renewal| renewal.as_mut().poll(context).is_ready();
            match self.renewals.iter_mut().position(lost) {
                Some(lost) => Poll::Ready(Err(TakenLost(lost))),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn add_renewals(&mut self) {
        for guard in &self.guards[self.renewals.len()..] {
            let (lease, renew) = (guard.state().clone(), self.renew);
            // Unconstrained, because `next` may use up the budget of the task in every poll.
            self.renewals.push(Box::pin(unconstrained(async move {
                renewal::renew_until_lost(&lease, renew).await;
            })));
        }
    }

    /// Releases the keys from a lost one on, in the background. Those before it stay taken.
    pub(super) fn drop_from(&mut self, TakenLost(lost): TakenLost) {
        self.renewals.truncate(lost);
        self.guards.truncate(lost);
    }

    /// Checks that all of the keys are still held: one may have been lost at the moment when the
    /// last one was granted.
    ///
    /// Without renewals, no key was waited for since the first grant. The check would then cost more
    /// than it finds: a later loss is found by each use of the guard.
    pub(super) fn check(&self) -> Result<(), TakenLost> {
        if self.renewals.is_empty() {
            return Ok(());
        }
        match self.guards.iter().position(|guard| !guard.is_valid()) {
            Some(lost) => Err(TakenLost(lost)),
            None => Ok(()),
        }
    }

    /// Returns the error for a call that does not take a lost key again.
    pub(super) fn lost_error(&self, TakenLost(lost): TakenLost) -> Error {
        let error = contended(self.guards[lost].key(), None);
        error.with_detail("it was granted, and lost before the last key was granted")
    }

    /// Hands the guards over, and ends their renewals.
    ///
    /// An extend that is in flight continues in the background, and its reply counts for the lease
    /// of its guard. Until then, the guard counts with the deadline from before, which the extend
    /// does not make too late: its ttl is that of the lease. An extend of the guard waits for the
    /// reply, so none overtakes the other.
    pub(super) fn into_guards(self) -> Vec<LockGuard> {
        self.guards
    }
}

/// Releases all of the locks in parallel, whether or not the release of one fails.
///
/// If dropped, the releases continue in the background, as does that of a guard that was not polled
/// yet.
pub(super) async fn release_all(guards: Vec<LockGuard>) -> Vec<Result<ReleaseOutcome, Error>> {
    join::all(guards.into_iter().map(LockGuard::release)).await
}
