use std::ops::AsyncFnOnce;

use super::{guard::LockGuard, lease::Lease, scope::Scope, validity::Loss};
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

/// Runs `work` under a held lock, and releases the lock.
pub(super) async fn run<T>(
    guard: LockGuard,
    work: impl AsyncFnOnce(Lease) -> T,
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
        return Err(match guard.loss() {
            Some(Loss::Cancelled) => cancelled(&guard),
            _ => guard.lost_error(),
        });
    }
    // A background task retries a failed release, and reports it if all retries fail.
    let _ = guard.release().await;
    Ok(value)
}

fn cancelled(guard: &LockGuard) -> Error {
    let error = Error::new(ErrorKind::Aborted).with_operation(Operation::Hold);
    error.with_key(guard.key()).with_lock_id(guard.lock_id())
}

impl<T> Classify for RunOutcome<T> {
    fn classify(&self) -> Classification {
        match self {
            Self::Completed(_) => Classification::OK,
            Self::Skipped(_) => Classification::LOCKED,
        }
    }
}
