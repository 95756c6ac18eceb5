use std::ops::AsyncFnOnce;

use super::{
    builder::LockBuilder,
    guard::{LockGuard, TryAcquire},
    lease::Lease,
    scope::Scope,
    validity::Loss,
};
use crate::{
    Error, ErrorKind, Holder, Operation,
    telemetry::{self, Done},
};

/// How a call that runs its work or leaves it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it tells whether the work ran"]
pub enum Run<T> {
    /// The work ran and returned this.
    Ran(T),
    /// Somebody else has the lock, so the work was left; what is known of them.
    Skipped(Option<Holder>),
}

impl LockBuilder {
    /// Waits for the lock, runs `work` under it, and releases it.
    ///
    /// **Guarantees:** the lock is renewed while the work runs, every third of the ttl unless
    /// [`renew`](Self::renew) says otherwise. The work is cancelled (its future is dropped) as soon
    /// as the lock is lost; it never runs on knowingly. A panic in the work releases the lock and
    /// goes on. The work is polled in place, so it may borrow, and need not be `Send`.
    ///
    /// A release that fails does not take the work's result away: it is tried again in the
    /// background, and reported to
    /// [`on_release_error`](crate::SyncGuardBuilder::on_release_error).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); and [`Lost`](ErrorKind::Lost) where the lock was lost before
    /// the work had ended. The work may have got anywhere by then, even to its last line.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops the work and releases the lock in the background.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, Fence, SyncGuard};
    /// # async fn charge(fence: Fence) -> u32 { 7 }
    /// # async fn example(locks: SyncGuard) -> Result<(), Error> {
    /// let receipt = locks.lock("payment:42").run(async |lease| {
    ///     Ok::<_, Error>(charge(lease.fence()?).await)
    /// }).await??;
    /// # Ok(()) }
    /// ```
    pub async fn run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<T, Error> {
        let running = telemetry::running(self.key());
        let done = running.within(self.wait_and_run(work)).await;
        running.end(done).map(|Done(value)| value)
    }

    async fn wait_and_run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<Done<T>, Error> {
        let this = self.renewing();
        let calls_off = this.calls_off();
        let guard = this.acquire().await?;
        guard.run(work, calls_off).await.map(Done)
    }

    /// Runs `work` under the lock if it is to be had at once, and leaves it otherwise.
    ///
    /// Otherwise as [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire) and [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn try_run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<Run<T>, Error> {
        let running = telemetry::running(self.key());
        let result = running.within(self.try_and_run(work)).await;
        running.end(result)
    }

    async fn try_and_run<T>(self, work: impl AsyncFnOnce(Lease) -> T) -> Result<Run<T>, Error> {
        let this = self.renewing();
        let calls_off = this.calls_off();
        match this.try_acquire().await? {
            TryAcquire::Acquired(guard) => guard.run(work, calls_off).await.map(Run::Ran),
            TryAcquire::Contended(holder) => Ok(Run::Skipped(holder)),
        }
    }
}

impl LockGuard {
    async fn run<T>(
        self,
        work: impl AsyncFnOnce(Lease) -> T,
        calls_off: Scope,
    ) -> Result<T, Error> {
        let value = tokio::select! {
            biased;
            // Before the loss, which the end of a scope is as well.
            () = calls_off.ended() => return Err(self.called_off()),
            () = self.lost() => return Err(self.lost_error()),
            value = work(self.lease()) => value,
        };
        // Work that blocked its thread may have run past the deadline without being polled; its
        // result was not made under the lock.
        if !self.is_valid() {
            return Err(match self.loss() {
                Some(Loss::Cancelled) => self.called_off(),
                _ => self.lost_error(),
            });
        }
        // A failure here is tried again, and in the end reported, by the background task.
        let _ = self.release().await;
        Ok(value)
    }

    fn called_off(&self) -> Error {
        let error = Error::new(ErrorKind::Aborted, Operation::Hold);
        error.with_key(self.key()).with_lock_id(self.lock_id())
    }
}
