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
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the Unix milliseconds.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Returns the time from `earlier` to this timestamp, or zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Returns when a grant that is made or extended at this time expires.
    #[must_use]
    pub fn after(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add(ttl.as_millis()))
    }

    /// Returns the timestamp that is `duration` later, by whole milliseconds.
    #[must_use]
    pub fn later_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns whether a grant that expires at this time is live at `now`.
    ///
    /// It stays live for `grace` beyond its expiry; only then may the key be granted again. The
    /// formula is the same in every SyncGuard: `expires_at > now - grace`.
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
