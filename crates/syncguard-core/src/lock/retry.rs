//! The schedule of retries.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

use crate::Ttl;

/// Shorter delays are raised to this value, so that retries are not a busy loop.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// Longer delays are reduced to this value: no wait is longer, and no clock overflows.
const MAX_DELAY: Duration = Ttl::MAX_DURATION;

/// The cap of a delay that grows, unless another one is set.
const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(2);

/// The longest time between two scheduled attempts of a waiter that the store would notify of a
/// release. It bounds what a lost notification costs.
const MAX_NOTIFIED_DELAY: Duration = Duration::from_secs(15);

/// The times at which waiters that are notified make their scheduled attempts are multiples of this,
/// so that a backend can send the attempts of a process together. The number of waiters that make
/// one at the same time stays small: of 10,000, some 90.
pub(crate) const ALIGNMENT: Duration = Duration::from_millis(100);

/// Schedules the retries of attempts that failed or found the lock held.
///
/// The default is ten retries, the first after 100 ms, with the delay doubling up to 2 s and
/// [equal jitter](Jitter::Equal). A delay is at least one millisecond, before jitter. Only attempts
/// that this schedule itself starts are counted. Not counted are attempts that follow a release or
/// the holder's expiry, or that poll a holder whose client does not notify waiters of its release.
///
/// # While the store notifies
///
/// If the store would [notify](crate::backend::LockBackend::is_subscribed) a waiter of the release,
/// the schedule only covers the loss of a notification. A delay that has grown to 2 s then continues
/// to double, up to 15 s, because retries are left out. Those count too, so a limit ends the wait
/// when it would without notifications, after its last retry, which is not left out. Attempts are
/// delayed by up to 100 ms, so that those for different keys can be sent together. A lost notification
/// costs at most 15 s, or the time to the holder's expiry if that is shorter.
///
/// A [fixed](Self::fixed) delay and a [`max_delay`](Self::max_delay) that was set are kept to: no
/// retry of such a schedule is left out or delayed.
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
    /// `None` for the default, which leaves room for longer delays where the store notifies.
    max_delay: Option<Duration>,
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
            max_delay: None,
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
        Self { max_delay: Some(max_delay.clamp(self.delay, MAX_DELAY)), ..self }
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
            Growth::Exponential => self.max_delay.unwrap_or(DEFAULT_MAX_DELAY).max(self.delay),
            Growth::Fixed => self.delay,
        }
    }

    pub(crate) fn schedule(&self) -> Schedule {
        let longest = self.longest_delay();
        let grows = self.growth == Growth::Exponential && self.max_delay.is_none();
        let may_leave_out = grows && longest * 2 < MAX_NOTIFIED_DELAY;
        let notified = || self.jitter.delays(longest * 2, MAX_NOTIFIED_DELAY - ALIGNMENT, 2.0);
        Schedule {
            delays: match self.growth {
                Growth::Exponential => self.jitter.delays(self.delay, longest, 2.0),
                Growth::Fixed => self.jitter.delays(self.delay, longest, 1.0),
            },
            longest,
            notified: may_leave_out.then(notified),
            remaining: self.limit,
        }
    }
}

impl Jitter {
    /// Returns a random part of `delay`.
    pub(crate) fn of(self, delay: Duration) -> Duration {
        self.delays(delay, delay, 1.0).next_backoff().unwrap_or_default()
    }

    /// Returns delays that grow from `first` to `longest`, without end.
    fn delays(self, first: Duration, longest: Duration, multiplier: f64) -> ExponentialBackoff {
        // `backoff` draws from current * (1 ± factor): the centre of each jitter's range and its
        // half-width yield the factor.
        let (centre, factor) = match self {
            Self::None => (1.0, 0.0),
            Self::Equal => (0.75, 1.0 / 3.0),
            Self::Full => (0.5, 1.0),
        };
        let mut delays = ExponentialBackoff {
            initial_interval: first.mul_f64(centre),
            max_interval: longest.mul_f64(centre),
            multiplier,
            randomization_factor: factor,
            // The wait is bounded elsewhere; this would measure it on another clock.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        delays.reset();
        delays
    }
}

/// Yields one delay after another.
#[derive(Debug)]
pub(crate) struct Schedule {
    delays: ExponentialBackoff,
    /// The upper bound of the delays.
    longest: Duration,
    /// The delays of a waiter that is notified, once the others have grown to their bound; `None` if
    /// no retry may be left out.
    notified: Option<ExponentialBackoff>,
    remaining: Option<u32>,
}

impl Schedule {
    /// Returns whether retries are left out while the store would notify of a release.
    pub(crate) fn may_leave_out(&self) -> bool {
        self.notified.is_some()
    }

    /// Returns the delay of a waiter that the store would notify of a release: it leaves out as many
    /// retries as fit into a longer delay, but never the last one.
    ///
    /// **Invariant:** the sum of all delays up to the last is that of the schedule without
    /// notifications, since a delay is the sum of those that it replaces.
    pub(crate) fn next_notified(&mut self) -> Option<Duration> {
        let has_grown = self.delays.current_interval >= self.delays.max_interval;
        let mut delay = self.next()?;
        let notified = self.notified.as_mut().filter(|_| has_grown);
        let bound = notified.and_then(Backoff::next_backoff).unwrap_or_default();
        while delay + self.longest <= bound {
            let Some(next) = self.next() else { break };
            delay += next;
        }
        Some(delay)
    }
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

    use super::{ALIGNMENT, Jitter, MAX_NOTIFIED_DELAY, Retry};

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

    /// Returns the delays of a waiter that the store notifies.
    fn notified(retry: &Retry) -> Vec<Duration> {
        let mut schedule = retry.schedule();
        std::iter::from_fn(|| schedule.next_notified()).collect()
    }

    #[test]
    fn while_the_store_notifies_delays_double_up_to_fifteen_seconds() {
        let retry = Retry::default().jitter(Jitter::None).limit(40);
        let millis: Vec<_> = notified(&retry).iter().map(Duration::as_millis).collect();
        let expected = [100, 200, 400, 800, 1_600, 4_000, 8_000, 14_000, 14_000, 14_000];
        assert_eq!(millis[..10], expected);
    }

    #[test]
    fn a_delay_or_a_cap_that_was_set_does_not_grow_further() {
        let second = Duration::from_secs(1);
        let exponential = Retry::exponential(second);
        let long = Retry::exponential(second * 10);
        for retry in [Retry::fixed(second), exponential.max_delay(second * 2), long] {
            let retry = retry.jitter(Jitter::None);
            assert!(!retry.schedule().may_leave_out());
            assert_eq!(notified(&retry), retry.delays().collect::<Vec<_>>());
        }
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
        fn what_is_left_out_is_added_to_the_next_delay(limit in 1u32..60, jitter in 0usize..3) {
            let jitter = [Jitter::None, Jitter::Equal, Jitter::Full][jitter];
            let retry = Retry::default().jitter(jitter).limit(limit);
            let notified = notified(&retry);
            prop_assert!(notified.iter().all(|delay| *delay <= MAX_NOTIFIED_DELAY - ALIGNMENT));
            let (sum, longest) = (notified.iter().sum::<Duration>(), retry.longest_delay());
            prop_assert!(sum <= longest * limit);
            if jitter == Jitter::None {
                prop_assert_eq!(sum, retry.delays().sum::<Duration>());
            }
        }

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
