//! The schedule of retries.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

use crate::Ttl;

/// Shorter delays are raised to this value, so that the store is not asked in a busy loop.
const SHORTEST: Duration = Duration::from_millis(1);

/// Longer delays are cut to this value: no wait outlasts it, and no clock overflows.
const LONGEST: Duration = Ttl::MAX_DURATION;

/// Schedules the retries of refused or failed attempts.
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
/// let patient = Retry::exponential(50.millis()).limit(100).jitter(Jitter::Full);
/// let steady = Retry::fixed(1.secs()).unlimited();
/// # let _ = (patient, steady);
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
    pub fn exponential(first: Duration) -> Self {
        let first = first.clamp(SHORTEST, LONGEST);
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
    pub fn fixed(delay: Duration) -> Self {
        Self { growth: Growth::Fixed, jitter: Jitter::None, ..Self::exponential(delay) }
    }

    /// Sets how many scheduled attempts follow the first one at most.
    #[must_use]
    pub fn limit(self, retries: u32) -> Self {
        Self { limit: Some(retries), ..self }
    }

    /// Removes the limit on the number of retries, so that only the wait bounds them.
    #[must_use]
    pub fn unlimited(self) -> Self {
        Self { limit: None, ..self }
    }

    /// Caps the delay before jitter; it is at least the first delay.
    #[must_use]
    pub fn max_delay(self, max_delay: Duration) -> Self {
        Self { max_delay: max_delay.clamp(self.delay, LONGEST), ..self }
    }

    /// Sets how much of a delay is random.
    #[must_use]
    pub fn jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    /// Returns the successive delays of this schedule, with new random values for each call. For
    /// backends that repeat what the store rolled back because of a conflict.
    pub fn delays(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        self.schedule()
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
        Schedule { delays, left: self.limit }
    }
}

/// Yields one delay after another.
#[derive(Debug)]
pub(crate) struct Schedule {
    delays: ExponentialBackoff,
    left: Option<u32>,
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
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
        let least = Duration::from_millis(10);
        assert_eq!(millis(retry.max_delay(least)), [100; 7], "a cap is at least the first delay");
    }

    #[test]
    fn a_fixed_delay_stays() {
        let delay = Duration::from_millis(30);
        assert!(Retry::fixed(delay).schedule().all(|next| next == delay));
        assert!(Retry::fixed(delay).max_delay(delay * 4).delays().all(|next| next == delay));
        assert_eq!(Retry::fixed(delay).schedule().count(), 10);
        assert_eq!(Retry::fixed(delay).unlimited().schedule().take(500).count(), 500);
    }

    proptest! {
        #[test]
        fn each_jitter_stays_in_its_range(first in 1u64..500, cap in 1u64..5_000, full: bool) {
            let (first, cap) = (Duration::from_millis(first), Duration::from_millis(cap));
            let jitter = if full { Jitter::Full } else { Jitter::Equal };
            let retry = Retry::exponential(first).max_delay(cap);
            let plain = retry.clone().jitter(Jitter::None).schedule();
            for (drawn, delay) in retry.jitter(jitter).schedule().zip(plain) {
                let least = if full { Duration::ZERO } else { delay / 2 };
                prop_assert!(least <= drawn + SLACK && drawn <= delay + SLACK, "{drawn:?} of {delay:?}");
            }
        }
    }
}
