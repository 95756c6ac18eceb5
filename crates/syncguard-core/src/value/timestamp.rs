use std::{fmt, time::Duration};

use super::Ttl;

/// A point in time on the *store's* clock: milliseconds since the Unix epoch.
///
/// Two timestamps of one store can be compared with each other and with nothing else. In
/// particular, the client's wall clock never decides whether a lock is live.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a timestamp from Unix milliseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Timestamp;
    ///
    /// let earlier = Timestamp::from_unix_millis(1_000);
    /// let later = Timestamp::from_unix_millis(3_500);
    /// assert!(earlier < later);
    /// assert_eq!(later.unix_millis(), 3_500);
    /// ```
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the Unix milliseconds.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Returns the time from `earlier` to this timestamp, or zero if `earlier` is not earlier.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use syncguard_core::{DurationExt, Timestamp};
    ///
    /// let earlier = Timestamp::from_unix_millis(1_000);
    /// let later = Timestamp::from_unix_millis(3_500);
    /// assert_eq!(later.since(earlier), 2_500.millis());
    /// assert_eq!(earlier.since(later), Duration::ZERO);
    /// ```
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Returns when a grant that is made or extended at this time expires.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Timestamp, Ttl};
    ///
    /// let granted = Timestamp::from_unix_millis(1_000);
    /// assert_eq!(granted.after(Ttl::default()), Timestamp::from_unix_millis(31_000));
    /// ```
    #[must_use]
    pub fn after(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.as_millis()))
    }

    /// Returns the timestamp that is `duration` later, by whole milliseconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use syncguard_core::Timestamp;
    ///
    /// let later = Timestamp::from_unix_millis(1_000).later_by(Duration::from_micros(2_700));
    /// assert_eq!(later, Timestamp::from_unix_millis(1_002));
    /// ```
    #[must_use]
    pub fn later_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns whether a grant that expires at this time is live at `now`.
    ///
    /// It stays live for `grace` beyond its expiry; only then may the key be granted again. The
    /// formula is the same in every SyncGuard: `expires_at > now - grace`.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{Timestamp, backend::Capabilities};
    ///
    /// let expires_at = Timestamp::from_unix_millis(10_000);
    /// let grace = Capabilities::GRACE; // 1000 ms
    /// assert!(expires_at.is_live(Timestamp::from_unix_millis(10_999), grace));
    /// assert!(!expires_at.is_live(Timestamp::from_unix_millis(11_000), grace));
    /// ```
    pub fn is_live(self, now: Self, grace: Duration) -> bool {
        self.0 > now.0.saturating_sub(millis(grace))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
