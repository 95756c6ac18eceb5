//! Where fence counters begin, and when they can be retired.

use std::time::Duration;

use crate::{Error, ErrorKind, Fence, Operation, Timestamp, backend::PageToken};

/// Where the fences of a key begin.
///
/// A grant [without a counter](crate::backend::AcquireRequest::creates_counter) has no part in this:
/// its fence is zero, and is below those of both.
///
/// # Why a retired counter never repeats a fence
///
/// A counter is retired, that is, deleted, only if counters are [seeded](Self::Seeded) and its value
/// is at most `now - unused_for`, by one step of the store that reads the value and the store's
/// clock. Assume that this clock never reads `unused_for` or more below what it has read before, and
/// that all clients of the store seed.
///
/// - The counter contains the highest fence of its key. While it exists, each grant is above it.
/// - After it was retired with the value `v` at the time `t`, so that `v <= t - unused_for`, the next
///   fence of the key is at least the clock of that grant, which is above `t - unused_for`, and
///   therefore above `v`. The new counter again contains the highest fence of the key.
/// - A fence is at least the clock of its grant. So the key was not granted in the last
///   `unused_for`, by that clock: a counter in use is not retired.
///
/// A store whose acquire decides on a state that it read earlier relies on the last point: if the
/// counter that it read was retired since, no grant was made in between, and the fence that it
/// writes is above the value that it read.
///
/// No state is kept of what was retired. A store's clock that is set back by `unused_for` or more
/// after a retirement can repeat fences, so [`RetireRequest::MIN_UNUSED_FOR`] is a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counters {
    /// A new counter begins at 1, as those of the TypeScript client do. Counters stay forever.
    #[default]
    FromOne,
    /// The fence of each grant is at least the store's Unix milliseconds, and above the last one.
    Seeded,
}

impl Counters {
    /// Returns the fence of a grant at `now`, after the last one, or `None` if that has reached
    /// [`Fence::LIMIT`].
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Fence, Timestamp, backend::Counters};
    ///
    /// let now = Timestamp::from_unix_millis(1_790_000_000_000);
    /// assert_eq!(Counters::FromOne.next(None, now), Some(Fence::new(1)?));
    /// let first = Counters::Seeded.next(None, now);
    /// assert_eq!(first, Some(Fence::new(1_790_000_000_000)?));
    /// assert_eq!(Counters::Seeded.next(first, now), Some(Fence::new(1_790_000_000_001)?));
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn next(self, last: Option<Fence>, now: Timestamp) -> Option<Fence> {
        let next = last.unwrap_or(Fence::ZERO).next()?;
        let clock = match self {
            Self::FromOne => None,
            Self::Seeded => u64::try_from(now.unix_millis()).ok(),
        };
        let clock = clock.and_then(|millis| Fence::new(millis).ok());
        Some(next.max(clock.unwrap_or(next).min(Fence::LIMIT)))
    }

    /// Refuses to retire counters unless they are seeded.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported), with the rule as its detail.
    pub fn require_seeded(self) -> Result<(), Error> {
        match self {
            Self::Seeded => Ok(()),
            Self::FromOne => Err(Error::new(ErrorKind::Unsupported)
                .with_detail(
                    "only seeded fence counters can be retired: set seed_new_counters for every \
                     client of the store, of which none may be a TypeScript client",
                )
                .not_applied()),
        }
    }
}

/// Requests one bounded step of retiring the fence counters of keys that are no longer used.
///
/// # Examples
///
/// ```
/// use syncguard_core::{DurationExt, backend::RetireRequest};
///
/// assert!(RetireRequest::new(720.hours()).is_ok());
/// assert!(RetireRequest::new(23.hours()).is_err());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetireRequest {
    unused_for: Duration,
    /// Where the previous step ended; `None` for the first one.
    pub after: Option<PageToken>,
    /// About how many counters to examine, at least one.
    pub limit: usize,
}

impl RetireRequest {
    /// The shortest time for which a key must not have been granted. It is also by how much the
    /// store's clock must never be set back.
    pub const MIN_UNUSED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

    /// The lowest value of a counter that can be retired. No clock has been that low since 2001, and
    /// no counter that began at 1 gets there. A lower one began at 1, so a client that does not seed
    /// may use it.
    pub const MIN_FENCE: u64 = 1_000_000_000_000;

    /// Requests that counters be retired whose keys were not granted for `unused_for`, a thousand
    /// in each step.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if `unused_for` is below
    /// [`MIN_UNUSED_FOR`](Self::MIN_UNUSED_FOR).
    pub fn new(unused_for: Duration) -> Result<Self, Error> {
        if unused_for < Self::MIN_UNUSED_FOR {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_operation(Operation::Prune)
                .with_detail(format!(
                    "counters must be unused for at least 24 h to be retired, not {unused_for:?}"
                ))
                .not_applied());
        }
        Ok(Self { unused_for, after: None, limit: 1_000 })
    }

    /// Continues where the previous step ended.
    #[must_use]
    pub fn after(self, token: PageToken) -> Self {
        Self { after: Some(token), ..self }
    }

    /// Sets about how many counters to examine; zero counts as one.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: limit.max(1), ..self }
    }

    /// Returns how long the key must not have been granted.
    pub fn unused_for(&self) -> Duration {
        self.unused_for
    }

    /// Returns that time in whole milliseconds, rounded up, at most a hundred years.
    pub fn unused_for_millis(&self) -> i64 {
        const CENTURY_MS: i64 = 100 * 366 * 24 * 3_600_000;
        let millis = self.unused_for.as_nanos().div_ceil(1_000_000);
        i64::try_from(millis).unwrap_or(CENTURY_MS).min(CENTURY_MS)
    }

    /// Returns whether the counter of a key that no one holds can be retired at `now`.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Fence, Timestamp, backend::RetireRequest};
    ///
    /// let (request, fence) = (RetireRequest::new(24.hours())?, Fence::new(1_790_000_000_000)?);
    /// let granted = Timestamp::from_unix_millis(1_790_000_000_000);
    /// assert!(!request.is_due(fence, granted.later_by(23.hours())));
    /// assert!(request.is_due(fence, granted.later_by(24.hours())));
    /// assert!(!request.is_due(Fence::new(1)?, granted));
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn is_due(&self, counter: Fence, now: Timestamp) -> bool {
        let latest = now.unix_millis().saturating_sub(self.unused_for_millis());
        let latest = u64::try_from(latest).unwrap_or(0);
        (Self::MIN_FENCE..=latest).contains(&counter.number())
    }
}

/// The result of one step of retiring counters.
#[derive(Clone, Debug, Default)]
pub struct RetirePage {
    /// How many counters were retired.
    pub retired: u64,
    /// Where to continue, `None` at the end.
    pub next: Option<PageToken>,
}

#[cfg(test)]
mod tests;
