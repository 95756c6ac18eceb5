//! Deadlines, and retries of commits that conflicted with others.

use std::time::Duration;

use syncguard_core::{Jitter, Retry};
use tokio::time::{Instant, sleep};

/// How often a commit that conflicted with another is retried.
const MAX_RETRIES: u32 = 10;

/// The longest first pause, about as long as a commit takes.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause.
const LONGEST: Duration = Duration::from_millis(320);

/// The latest end of an operation, with all its requests and pauses.
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

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn instant(self) -> Instant {
        self.0
    }
}

/// The rounds of an operation, each of which reads and then commits on the condition that nothing has
/// changed.
///
/// If another client keeps a transaction open on the documents, the service lets a commit wait for
/// seconds before it refuses it. So a round begins only if one as long as the longest so far still
/// ends before the deadline: a commit that is cut off may have been applied, a commit that was
/// refused was not.
pub(crate) struct Rounds<P> {
    deadline: Deadline,
    began: Instant,
    longest: Duration,
    pauses: P,
}

/// Begins the first round.
pub(crate) fn rounds(deadline: Deadline) -> Rounds<impl Iterator<Item = Duration> + Send> {
    let (began, longest) = (Instant::now(), Duration::ZERO);
    Rounds { deadline, began, longest, pauses: pauses() }
}

impl<P: Iterator<Item = Duration> + Send> Rounds<P> {
    /// Pauses before the next round, which begins when this returns. Returns `None` immediately if
    /// none fits.
    pub(crate) async fn next(&mut self) -> Option<()> {
        self.longest = self.longest.max(self.began.elapsed());
        let pause = self.pauses.next()?;
        if self.deadline.left() < pause + self.longest {
            return None;
        }
        sleep(pause).await;
        self.began = Instant::now();
        Some(())
    }
}

/// Returns the pauses between attempts. They have full jitter, so that clients that conflicted do
/// not conflict again.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> + Send {
    // Most operations never pause: nothing is allocated before the first pause.
    let mut delays = None;
    let begin = || {
        let retry = Retry::exponential(FIRST).max_delay(LONGEST).limit(MAX_RETRIES);
        retry.jitter(Jitter::Full).delays()
    };
    std::iter::from_fn(move || delays.get_or_insert_with(begin).next())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{Deadline, FIRST, LONGEST, MAX_RETRIES, pauses, rounds};

    #[test]
    fn pauses_are_few_and_grow_up_to_a_limit() {
        for _ in 0..100 {
            let drawn: Vec<_> = pauses().collect();
            assert_eq!(drawn.len(), MAX_RETRIES as usize);
            let mut longest = FIRST;
            for pause in drawn {
                assert!(pause <= longest, "{pause:?} is longer than {longest:?}");
                longest = (longest * 2).min(LONGEST);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_round_begins_that_would_outlast_the_deadline() {
        let began = Instant::now();
        let mut rounds = rounds(Deadline::after(Duration::from_secs(5)));
        let mut count = 0;
        loop {
            sleep(Duration::from_secs(2)).await;
            count += 1;
            if rounds.next().await.is_none() {
                break;
            }
        }
        assert_eq!(count, 2);
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn quick_rounds_are_bounded_by_their_number() {
        let mut rounds = rounds(Deadline::after(Duration::from_secs(600)));
        let mut count = 1;
        while rounds.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, MAX_RETRIES + 1);
    }
}
