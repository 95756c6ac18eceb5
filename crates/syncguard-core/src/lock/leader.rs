use std::{fmt, future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{builder::LockBuilder, lease::Lease, retry::Retry, term::Term, timer::Timer};
use crate::{Error, ErrorKind, Owner, Ttl};

/// Configures a candidate for the leadership of a key. Finish with [`run`](Self::run).
///
/// The leader is the holder of the lock on the key, so the two exclude each other, and
/// [`watch`](crate::LockManager::watch) shows who leads.
///
/// | Setting | Default |
/// | --- | --- |
/// | [`ttl`](Self::ttl) | 30 s |
/// | [`retry`](Self::retry) | 100 ms doubling up to 2 s, or 15 s while the store notifies of releases, equal jitter |
/// | [`owner`](Self::owner) | that of the [`LockManager`](crate::LockManager), `host:pid` |
#[must_use = "a candidate does not campaign until `run`"]
pub struct LeaderBuilder {
    lock: LockBuilder,
    retry: Retry,
}

/// How a term ended that was not lost.
enum TermOutcome<T> {
    Completed(T),
    Resigned,
}

impl LeaderBuilder {
    pub(super) fn new(lock: LockBuilder) -> Self {
        Self { lock, retry: Retry::default() }
    }

    /// Sets how long the key stays with a leader that has failed: a [`Ttl`], a [`Duration`] or text
    /// such as `"30s"`. The store's grace is added to it. While the leader works, its lease is
    /// renewed after a quarter to a third of the ttl.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::DurationExt;
    ///
    /// let left = locks.leader("scheduler").ttl("10s").run(async |term| term.lease().remaining());
    /// assert!(left.await? <= 10.secs());
    /// # Ok(()) }
    /// ```
    pub fn ttl(self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Self {
        Self { lock: self.lock.ttl(ttl), ..self }
    }

    /// Sets the delays between the attempts of a campaign, in addition to those that follow the end
    /// of another leader's term. A [limit](Retry::limit) of the retries is ignored: a campaign waits
    /// as long as it takes.
    ///
    /// The longest delay of the schedule is also the pause between a term and the next campaign.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn lead() {}
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// use syncguard_core::{DurationExt, Retry};
    ///
    /// let retry = Retry::exponential(100.millis()).max_delay(10.secs());
    /// locks.leader("scheduler").retry(retry).run(async |_| lead().await).await?;
    /// # Ok(()) }
    /// ```
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Sets the label that identifies the leader to followers.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn serve() {}
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// locks.leader("scheduler").owner("web-1:8080").run(async |_| serve().await).await?;
    /// # Ok(()) }
    /// ```
    pub fn owner(self, owner: impl TryInto<Owner, Error: Into<Error>>) -> Self {
        Self { lock: self.lock.owner(owner), ..self }
    }

    /// Ends the campaign, or the term with its work, with [`Aborted`](ErrorKind::Aborted) as soon as
    /// `token` is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// use syncguard_core::ErrorKind;
    /// use tokio_util::sync::CancellationToken;
    ///
    /// let shutdown = CancellationToken::new();
    /// let leader = locks.leader("scheduler").cancel_on(shutdown.clone());
    /// let stopped = leader.run(async |_| {
    ///     shutdown.cancel();
    ///     std::future::pending::<()>().await
    /// });
    /// assert_eq!(stopped.await.unwrap_err().kind(), ErrorKind::Aborted);
    /// # Ok(()) }
    /// ```
    pub fn cancel_on(self, token: CancellationToken) -> Self {
        Self { lock: self.lock.cancel_on(token), ..self }
    }

    /// Campaigns for the key, runs `work` as its leader, and campaigns again when the term ends
    /// before the work does. Returns the value of the work.
    ///
    /// A campaign waits for the key without a time limit, as
    /// [`LockBuilder::acquire`](crate::LockBuilder::acquire) does with an unlimited wait. Each term
    /// has a fence and a lease of its own, and calls `work` again:
    ///
    /// | The term ends because | Then |
    /// | --- | --- |
    /// | the work returns | `run` releases the key and returns the value |
    /// | the lease is lost | the work is cancelled; after a pause, the next campaign begins |
    /// | the term is [resigned](Term::resign) | the work is cancelled and the key released; after a pause, the next campaign begins |
    ///
    /// To stop leading for good, return from the work, cancel the
    /// [token](Self::cancel_on), or drop the future.
    ///
    /// **Guarantees:** two leaders are excluded as two holders of a lock are. The lease is renewed
    /// while the work runs. If it is lost, the work is cancelled (its future is dropped) before
    /// another candidate can win the key. Work that blocks its thread cannot be cancelled in time;
    /// for that case check the [fence](Term::fence) at the resource. If the work panics, the key is
    /// released and the panic is propagated. The work is polled in place, so it may borrow and need
    /// not be `Send`. State that it changes from term to term is shared, such as an atomic, or is
    /// changed before the future is created: `|term| { terms += 1; async move { … } }`.
    ///
    /// **The pause** is the longest delay of the [retry](Self::retry) schedule and one more delay of
    /// it: a little more than 2 s by default. In that time every other candidate with this schedule
    /// makes an attempt, because it is notified of the release or because its next retry is due. It also keeps a
    /// leader that loses or resigns each term immediately from sending requests in a loop.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if a value is invalid,
    /// [`Aborted`](ErrorKind::Aborted) if the token or the scope was cancelled, or the reason why
    /// the store cannot grant the key at all. Transient errors are retried.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the work is dropped, the lock is released in the background, and
    /// the place in the queue is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, Fence, LockManager};
    /// # async fn next_job() -> Option<u32> { None }
    /// # async fn start(job: u32, fence: Fence) {}
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// locks.leader("scheduler").ttl("10s").run(async |term| {
    ///     while let Some(job) = next_job().await {
    ///         start(job, term.fence()?).await;
    ///     }
    ///     Ok::<_, Error>(())
    /// }).await??;
    /// # Ok(()) }
    /// ```
    // Not an `AsyncFnMut`: if that borrows, the compiler cannot prove that this future is
    // `Send`, and candidates are spawned.
    pub async fn run<F: Future>(self, mut work: impl FnMut(Term) -> F) -> Result<F::Output, Error> {
        let Self { lock, retry } = self;
        let (cancelled_by, retry) = (lock.cancelled_by().clone(), retry.unlimited());
        let candidate = lock.wait(Duration::MAX).retry(retry.clone()).repeatable()?;
        loop {
            match candidate().run(async |lease| lead(lease, &mut work).await).await {
                Ok(TermOutcome::Completed(value)) => return Ok(value),
                Ok(TermOutcome::Resigned) => {}
                Err(error) if error.kind() == ErrorKind::Lost => {}
                Err(error) => return Err(error),
            }
            tokio::select! {
                // The next campaign reports the cancellation before it sends a request.
                () = cancelled_by.cancelled() => {}
                () = Timer::after(pause(&retry)) => {}
            }
        }
    }
}

/// Runs the work of one term, until it returns or the term is resigned.
///
/// On a resignation the work is dropped here, so before the lock is released.
async fn lead<F: Future>(lease: Lease, work: &mut impl FnMut(Term) -> F) -> TermOutcome<F::Output> {
    let term = Term::new(lease);
    tokio::select! {
        biased;
        () = term.resigned() => TermOutcome::Resigned,
        value = work(term.clone()) => TermOutcome::Completed(value),
    }
}

/// Returns how long a candidate leaves the key alone after a term.
///
/// Another candidate that the store does not notify of the release made its last attempt before the
/// release, and makes its next one within the longest delay. The additional delay covers the round
/// trips.
fn pause(retry: &Retry) -> Duration {
    retry.longest_delay() + retry.schedule().next().unwrap_or_default()
}

impl fmt::Debug for LeaderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaderBuilder")
            .field("lock", &self.lock)
            .field("retry", &self.retry)
            .finish()
    }
}
