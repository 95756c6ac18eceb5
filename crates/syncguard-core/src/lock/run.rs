use std::ops::AsyncFnOnce;

use super::{
    all_guard::LockAllGuard, all_lease::LockAllLease, guard::LockGuard, lease::Lease, scope::Scope,
    validity::Loss,
};
use crate::{
    Error, ErrorKind, Holder, Operation,
    telemetry::{Classification, Classify},
};

/// Reports the outcome of [`try_run`](crate::LockBuilder::try_run).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the work may not have run"]
pub enum RunOutcome<T> {
    /// The work ran and returned this.
    Completed(T),
    /// Another holder has the lock, so the work did not run; contains what is known of the holder.
    Skipped(Option<Holder>),
}

/// A guard under which work can run: of one lock or of several.
pub(super) trait RunGuard {
    type Lease;

    fn lease(&self) -> Self::Lease;
    fn is_valid(&self) -> bool;
    /// Completes as soon as the work is no longer protected.
    fn lost(&self) -> impl Future<Output = ()>;
    /// Returns whether a cancelled scope was the cause.
    fn is_cancelled(&self) -> bool;
    /// Returns the error that explains why the work is not protected.
    fn lost_error(&self) -> Error;
    /// Adds to an error what it concerns.
    fn describe(&self, error: Error) -> Error;
    /// Releases what is held. A background task retries a failed release, and reports it if all
    /// retries fail.
    fn release(self) -> impl Future<Output = ()>;
}

/// Runs `work` under a guard, and releases the guard.
pub(super) async fn run<G: RunGuard, T>(
    guard: G,
    work: impl AsyncFnOnce(G::Lease) -> T,
    cancelled_by: Scope,
) -> Result<T, Error> {
    let value = tokio::select! {
        biased;
        // Before the loss, which a cancelled scope also causes.
        () = cancelled_by.cancelled() => return Err(cancelled(&guard)),
        () = guard.lost() => return Err(guard.lost_error()),
        value = work(guard.lease()) => value,
    };
    // Work that blocked its thread may have run past the deadline without being polled. Its result
    // was not computed under the lock.
    if !guard.is_valid() {
        return Err(match guard.is_cancelled() {
            true => cancelled(&guard),
            false => guard.lost_error(),
        });
    }
    guard.release().await;
    Ok(value)
}

fn cancelled(guard: &impl RunGuard) -> Error {
    guard.describe(Error::new(ErrorKind::Aborted).with_operation(Operation::Hold))
}

impl RunGuard for LockGuard {
    type Lease = Lease;

    fn lease(&self) -> Lease {
        self.lease()
    }

    fn is_valid(&self) -> bool {
        Lease::is_valid(self)
    }

    fn lost(&self) -> impl Future<Output = ()> {
        Lease::lost(self)
    }

    fn is_cancelled(&self) -> bool {
        self.loss() == Some(Loss::Cancelled)
    }

    fn lost_error(&self) -> Error {
        Lease::lost_error(self)
    }

    fn describe(&self, error: Error) -> Error {
        error.with_key(self.key()).with_lock_id(self.lock_id())
    }

    async fn release(self) {
        let _ = self.release().await;
    }
}

impl RunGuard for LockAllGuard {
    type Lease = LockAllLease;

    fn lease(&self) -> LockAllLease {
        self.lease()
    }

    fn is_valid(&self) -> bool {
        LockAllLease::is_valid(self)
    }

    fn lost(&self) -> impl Future<Output = ()> {
        LockAllLease::lost(self)
    }

    fn is_cancelled(&self) -> bool {
        self.loss().is_some_and(|(_, loss)| loss == Loss::Cancelled)
    }

    fn lost_error(&self) -> Error {
        LockAllLease::lost_error(self)
    }

    /// A cancellation concerns no key more than another.
    fn describe(&self, error: Error) -> Error {
        error
    }

    async fn release(self) {
        let _ = self.release().await;
    }
}

impl<T> Classify for RunOutcome<T> {
    fn classify(&self) -> Classification {
        match self {
            Self::Completed(_) => Classification::OK,
            Self::Skipped(_) => Classification::LOCKED,
        }
    }
}
