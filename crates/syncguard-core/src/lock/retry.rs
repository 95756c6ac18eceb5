//! The schedule of retries.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

use crate::Ttl;

/// Shorter delays are raised to this value, so that retries are not a busy loop.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// Longer delays are reduced to this value: no wait is longer, and no clock overflows.
const MAX_DELAY: Duration = Ttl::MAX_DURATION;

/// Schedules the retries of attempts that failed or found the lock held.
///
/// The default is ten retries, the first after 100 ms, with the delay doubling up to 2 s and
/// [equal jitter](Jitter::Equal). A delay is at least one millisecond, before jitter. Only attempts
/// that this schedule itself starts are counted. Not counted are attempts that follow a release or
/// the holder's expiry, or that poll a holder whose client does not notify waiters of its release.
///
/// # Examples
///
/// ```
/// use syncguard_core::{DurationExt, Jitter, Retry};
///
/// let many = Retry::exponential(50.millis()).limit(100).jitter(Jitter::Full);
/// let steady = Retry::fixed(1.secs()).unlimited();
/// # let _ = (many, steady);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    delay: Duration,
    max_delay: Duration,
    growth: Growth,
    jitter: Jitter,
    limit: Option<u32>,
}

/// Selects how the delay grows from attempt to attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The delay doubles.
    Exponential,
    /// The delay stays the same.
    Fixed,
}

/// Selects how much of a delay is random, so that contenders spread out.
///
/// The names are those of Marc Brooker, "Exponential Backoff And Jitter" (2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// None.
    None,
    /// The upper half: `d/2 + random * d/2`.
    Equal,
    /// All of it: `random * d`.
    Full,
}

impl Default for Retry {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100))
    }
}

impl Retry {
    /// Creates a schedule whose delay doubles from attempt to attempt, by default up to 2 s (see
    /// [`max_delay`](Self::max_delay)).
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Jitter, Retry};
    ///
    /// let retry = Retry::exponential(100.millis()).jitter(Jitter::None).limit(3);
    /// let delays: Vec<_> = retry.delays().map(|delay| delay.as_millis()).collect();
    /// assert_eq!(delays, [100, 200, 400]);
    /// ```
    pub fn exponential(first: Duration) -> Self {
        let first = first.clamp(MIN_DELAY, MAX_DELAY);
        Self {
            delay: first,
            max_delay: Duration::from_secs(2).max(first),
            growth: Growth::Exponential,
            jitter: Jitter::Equal,
            limit: Some(10),
        }
    }

    /// Creates a schedule with a constant delay, by default without jitter (see
    /// [`jitter`](Self::jitter)).
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Retry};
    ///
    /// let retry = Retry::fixed(30.millis()).limit(3);
    /// let delays: Vec<_> = retry.delays().map(|delay| delay.as_millis()).collect();
    /// assert_eq!(delays, [30, 30, 30]);
    /// ```
    pub fn fixed(delay: Duration) -> Self {
        Self { growth: Growth::Fixed, jitter: Jitter::None, ..Self::exponential(delay) }
    }

    /// Sets how many scheduled attempts follow the first one at most.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Retry;
    ///
    /// assert_eq!(Retry::default().delays().count(), 10);
    /// assert_eq!(Retry::default().limit(3).delays().count(), 3);
    /// ```
    #[must_use]
    pub fn limit(self, retries: u32) -> Self {
        Self { limit: Some(retries), ..self }
    }

    /// Removes the limit on the number of retries, so that only the wait bounds them.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Retry;
    ///
    /// let retry = Retry::default().unlimited();
    /// assert_eq!(retry.delays().take(1_000).count(), 1_000);
    /// ```
    #[must_use]
    pub fn unlimited(self) -> Self {
        Self { limit: None, ..self }
    }

    /// Caps the delay before jitter; it is at least the first delay.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Jitter, Retry};
    ///
    /// let retry = Retry::exponential(100.millis()).max_delay(300.millis());
    /// let retry = retry.jitter(Jitter::None).limit(4);
    /// let delays: Vec<_> = retry.delays().map(|delay| delay.as_millis()).collect();
    /// assert_eq!(delays, [100, 200, 300, 300]);
    /// ```
    #[must_use]
    pub fn max_delay(self, max_delay: Duration) -> Self {
        Self { max_delay: max_delay.clamp(self.delay, MAX_DELAY), ..self }
    }

    /// Sets how much of a delay is random.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Jitter, Retry};
    ///
    /// let retry = Retry::fixed(100.millis()).jitter(Jitter::Full); // between zero and 100 ms
    /// assert!(retry.delays().all(|delay| delay <= 100.millis()));
    /// ```
    #[must_use]
    pub fn jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    /// Returns the successive delays of this schedule, with new random values for each call. For
    /// backends that repeat a transaction that the store rolled back because of a conflict.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Retry};
    ///
    /// # fn commit(attempt: usize) -> bool { attempt == 2 }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut attempts = 1;
    /// for delay in Retry::exponential(1.millis()).delays() {
    ///     if commit(attempts) {
    ///         break;
    ///     }
    ///     attempts += 1;
    ///     tokio::time::sleep(delay).await;
    /// }
    /// assert_eq!(attempts, 2);
    /// # }
    /// ```
    pub fn delays(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        self.schedule()
    }

    /// Returns the upper bound of all delays.
    pub(crate) fn longest_delay(&self) -> Duration {
        match self.growth {
            Growth::Exponential => self.max_delay,
            Growth::Fixed => self.delay,
        }
    }

    pub(crate) fn schedule(&self) -> Schedule {
        // `backoff` draws from current * (1 ± factor): the centre of each jitter's range and its
        // half-width yield the factor.
        let (centre, factor) = match self.jitter {
            Jitter::None => (1.0, 0.0),
            Jitter::Equal => (0.75, 1.0 / 3.0),
            Jitter::Full => (0.5, 1.0),
        };
        let mut delays = ExponentialBackoff {
            initial_interval: self.delay.mul_f64(centre),
            max_interval: self.max_delay.mul_f64(centre),
            multiplier: if self.growth == Growth::Exponential { 2.0 } else { 1.0 },
            randomization_factor: factor,
            // The wait is bounded elsewhere; this would measure it on another clock.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        delays.reset();
        Schedule { delays, remaining: self.limit }
    }
}

/// Yields one delay after another.
#[derive(Debug)]
pub(crate) struct Schedule {
    delays: ExponentialBackoff,
    remaining: Option<u32>,
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.checked_sub(1)?;
        }
        self.delays.next_backoff()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Jitter, Retry};

    const SLACK: Duration = Duration::from_micros(1);

    #[test]
    fn without_jitter_delays_double_up_to_the_cap_and_end_with_the_limit() {
        let retry = Retry::default().jitter(Jitter::None).limit(7);
        let millis =
            |retry: Retry| retry.delays().map(|delay| delay.as_millis()).collect::<Vec<_>>();
        assert_eq!(millis(retry.clone()), [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        let cap = Duration::from_millis(300);
        assert_eq!(millis(retry.clone().max_delay(cap)), [100, 200, 300, 300, 300, 300, 300]);
        let short = Duration::from_millis(10);
        assert_eq!(millis(retry.max_delay(short)), [100; 7], "a cap is at least the first delay");
    }

    #[test]
    fn a_fixed_delay_is_constant() {
        let delay = Duration::from_millis(30);
        assert!(Retry::fixed(delay).schedule().all(|next| next == delay));
        assert!(Retry::fixed(delay).max_delay(delay * 4).delays().all(|next| next == delay));
        assert_eq!(Retry::fixed(delay).schedule().count(), 10);
        assert_eq!(Retry::fixed(delay).unlimited().schedule().take(500).count(), 500);
    }

    #[test]
    fn no_delay_is_longer_than_the_longest() {
        let first = Duration::from_millis(30);
        for (retry, longest) in [
            (Retry::exponential(first), Duration::from_secs(2)),
            (Retry::exponential(first).max_delay(first * 3), first * 3),
            (Retry::fixed(first), first),
        ] {
            assert_eq!(retry.longest_delay(), longest);
            let delays = retry.jitter(Jitter::None).unlimited().schedule();
            assert_eq!(delays.take(20).max(), Some(longest));
        }
    }

    proptest! {
        #[test]
        fn each_jitter_stays_in_its_range(first in 1u64..500, cap in 1u64..5_000, full: bool) {
            let (first, cap) = (Duration::from_millis(first), Duration::from_millis(cap));
            let jitter = if full { Jitter::Full } else { Jitter::Equal };
            let retry = Retry::exponential(first).max_delay(cap);
            let plain = retry.clone().jitter(Jitter::None).schedule();
            for (actual, delay) in retry.jitter(jitter).schedule().zip(plain) {
                let min = if full { Duration::ZERO } else { delay / 2 };
                let is_in_range = min <= actual + SLACK && actual <= delay + SLACK;
                prop_assert!(is_in_range, "{actual:?} of {delay:?}");
            }
        }
    }
}
