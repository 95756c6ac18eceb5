//! Deadlines, and retries of commits that conflicted with others.

use std::time::Duration;

use syncguard_core::{Jitter, Retry};
use tokio::time::{Instant, sleep};

/// The maximum number of retries of a commit that conflicted with another.
const MAX_RETRIES: u32 = 10;

/// The maximum number of retries of a commit that changes a document that others may share.
///
/// A conflict over an exclusive lock usually settles the attempt: another id has the key. Readers
/// change the document of their key whenever one of them joins, extends or leaves, and a conflict
/// settles nothing. It is then the deadline that ends the attempts, and this number if the request
/// timeout is long.
///
/// Each conflict means that a commit of another client was made, so of all that conflict one gets
/// ahead: the attempts of a client cannot all fail unless the others make as many commits
/// meanwhile. Some 64 readers that begin at the same time need 64 commits one after the other. At
/// [`MAX_DELAY`] their retries are spread over the time of several commits, so that few of them meet
/// and the last is served soon after its turn.
const MAX_RETRIES_AMONG_READERS: u32 = 60;

/// The maximum of the first delay, about as long as a commit takes.
const FIRST_DELAY: Duration = Duration::from_millis(10);

/// The maximum delay.
const MAX_DELAY: Duration = Duration::from_millis(320);

/// The latest end of an operation, with all its requests and delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// Returns a deadline that is earlier by this much.
    pub(crate) fn earlier(self, by: Duration) -> Self {
        Self(self.0.checked_sub(by).unwrap_or(self.0))
    }

    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn instant(self) -> Instant {
        self.0
    }
}

/// The attempts of an operation. Each reads, and then commits on the condition that nothing has
/// changed.
///
/// If another client keeps a transaction open on the documents, the service lets a commit wait for
/// seconds before it refuses it. So an attempt starts only if one as long as the longest so far
/// would end before the deadline: a commit that is cut off may have been applied, a commit that was
/// refused was not.
pub(crate) struct Attempts<P> {
    deadline: Deadline,
    started_at: Instant,
    longest: Duration,
    retries: u32,
    backoff: P,
}

/// Starts the first attempt.
pub(crate) fn attempts(deadline: Deadline) -> Attempts<impl Iterator<Item = Duration> + Send> {
    let (started_at, longest) = (Instant::now(), Duration::ZERO);
    let backoff = delays(MAX_RETRIES_AMONG_READERS);
    Attempts { deadline, started_at, longest, retries: 0, backoff }
}

impl<P: Iterator<Item = Duration> + Send> Attempts<P> {
    /// Sleeps until the next attempt, which starts when this returns. Returns `None` immediately if
    /// no attempt fits.
    pub(crate) async fn next(&mut self) -> Option<()> {
        if self.retries >= MAX_RETRIES { None } else { self.next_among_readers().await }
    }

    /// Does the same after a conflict over a document that others may share.
    pub(crate) async fn next_among_readers(&mut self) -> Option<()> {
        self.longest = self.longest.max(self.started_at.elapsed());
        let delay = self.backoff.next()?;
        self.retries += 1;
        if self.deadline.remaining() < delay + self.longest {
            return None;
        }
        sleep(delay).await;
        self.started_at = Instant::now();
        Some(())
    }
}

/// Returns the delays between attempts.
pub(crate) fn backoff() -> impl Iterator<Item = Duration> + Send {
    delays(MAX_RETRIES)
}

/// Returns delays with full jitter, so that clients that conflicted do not conflict again.
fn delays(limit: u32) -> impl Iterator<Item = Duration> + Send {
    // Most operations need no retry: nothing is allocated before the first delay.
    let mut delays = None;
    let begin = move || {
        let retry = Retry::exponential(FIRST_DELAY).max_delay(MAX_DELAY).limit(limit);
        retry.jitter(Jitter::Full).delays()
    };
    std::iter::from_fn(move || delays.get_or_insert_with(begin).next())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{
        Deadline, FIRST_DELAY, MAX_DELAY, MAX_RETRIES, MAX_RETRIES_AMONG_READERS, attempts, backoff,
    };

    #[test]
    fn backoff_delays_are_limited_in_number_and_length() {
        for _ in 0..100 {
            let delays: Vec<_> = backoff().collect();
            assert_eq!(delays.len(), MAX_RETRIES as usize);
            let mut longest = FIRST_DELAY;
            for delay in delays {
                assert!(delay <= longest, "{delay:?} is longer than {longest:?}");
                longest = (longest * 2).min(MAX_DELAY);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_attempt_starts_that_would_outlast_the_deadline() {
        let started_at = Instant::now();
        let mut attempts = attempts(Deadline::after(Duration::from_secs(5)));
        let mut count = 0;
        loop {
            sleep(Duration::from_secs(2)).await;
            count += 1;
            if attempts.next().await.is_none() {
                break;
            }
        }
        assert_eq!(count, 2);
        assert!(started_at.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn quick_attempts_are_limited_in_number() {
        let mut attempts = attempts(Deadline::after(Duration::from_secs(600)));
        let mut count = 1;
        while attempts.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, MAX_RETRIES + 1);
        while attempts.next_among_readers().await.is_some() {
            count += 1;
        }
        assert_eq!(count, MAX_RETRIES_AMONG_READERS + 1);
    }
}
