use std::{fmt, str::FromStr, time::Duration};

use super::{
    invalid::{Invalid, InvalidValue},
    serde_as_text,
};

/// Limits how long a grant lasts unless it is extended: a positive whole number of milliseconds.
///
/// Parses from a [`Duration`] and from text such as `30s`, `10m` or `1h30m`. The default is 30
/// seconds, the maximum ten years.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use syncguard_core::Ttl;
///
/// let ttl: Ttl = "1h30m".parse()?;
/// assert_eq!(ttl.as_duration(), Duration::from_secs(5_400));
/// assert!(Ttl::new(Duration::from_micros(1_500)).is_err());
/// # Ok::<(), syncguard_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(Duration);

impl Ttl {
    /// The longest ttl: 3650 days. Its milliseconds plus today's date fit into every store's
    /// integer.
    pub const MAX: Self = Self(Self::MAX_DURATION);

    pub(crate) const MAX_DURATION: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

    /// Creates a ttl if `duration` is a positive whole number of milliseconds, at most
    /// [`MAX`](Self::MAX).
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use syncguard_core::{DurationExt, Ttl};
    ///
    /// assert_eq!(Ttl::new(30.secs())?, Ttl::default());
    /// assert!(Ttl::new(Duration::ZERO).is_err());
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn new(duration: Duration) -> Result<Self, InvalidValue> {
        if duration.is_zero() || !duration.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(Invalid::FractionalTtl(duration).into());
        }
        if duration > Self::MAX.0 {
            return Err(Invalid::LongTtl(duration).into());
        }
        Ok(Self(duration))
    }

    /// Returns the shortest ttl that lasts for `duration`, or [`MAX`](Self::MAX) if `duration` is
    /// longer.
    pub(crate) fn covering(duration: Duration) -> Self {
        const MILLI: Duration = Duration::from_millis(1);
        let millis = duration.as_nanos().div_ceil(MILLI.as_nanos());
        let millis = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        Self(millis.clamp(MILLI, Self::MAX_DURATION))
    }

    /// Returns the duration.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Ttl};
    ///
    /// let ttl: Ttl = "1m30s".parse()?;
    /// assert_eq!(ttl.as_duration(), 90.secs());
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn as_duration(self) -> Duration {
        self.0
    }

    /// Returns how long before the store's expiry a lease counts as lost: 5 % of the ttl, at least
    /// 50 ms, at most half of the ttl. It covers the drift of two clocks and the time to stop the
    /// work.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{DurationExt, Ttl};
    ///
    /// assert_eq!(Ttl::new(30.secs())?.margin(), 1_500.millis());
    /// assert_eq!(Ttl::new(400.millis())?.margin(), 50.millis()); // at least
    /// assert_eq!(Ttl::new(60.millis())?.margin(), 30.millis()); // half of the ttl
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn margin(self) -> Duration {
        const MIN_MARGIN: Duration = Duration::from_millis(50);
        (self.0 / 20).max(MIN_MARGIN).min(self.0 / 2)
    }

    /// Returns the milliseconds, the unit in which stores keep a ttl.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::Ttl;
    ///
    /// let ttl: Ttl = "1m".parse()?;
    /// assert_eq!(ttl.as_millis(), 60_000);
    /// # Ok::<(), syncguard_core::Error>(())
    /// ```
    pub fn as_millis(self) -> i64 {
        // Bounded by `MAX`, so the fallback is never taken.
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    fn to_text(self) -> String {
        self.to_string()
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

impl TryFrom<Duration> for Ttl {
    type Error = InvalidValue;

    fn try_from(duration: Duration) -> Result<Self, InvalidValue> {
        Self::new(duration)
    }
}

impl TryFrom<&str> for Ttl {
    type Error = InvalidValue;

    fn try_from(text: &str) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl FromStr for Ttl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |reason| Invalid::TtlText { text: text.chars().take(32).collect(), reason };
        Self::new(humantime::parse_duration(text).map_err(invalid)?)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Debug for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ttl({self})")
    }
}

serde_as_text!(Ttl);

/// Creates durations from numbers: `30.secs()`, `5.mins()`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use syncguard_core::DurationExt;
///
/// assert_eq!(30.secs(), Duration::from_secs(30));
/// assert_eq!(90.mins(), 1.hours() + 30.mins());
/// ```
pub trait DurationExt {
    /// Returns this number of milliseconds.
    fn millis(self) -> Duration;
    /// Returns this number of seconds.
    fn secs(self) -> Duration;
    /// Returns this number of minutes.
    fn mins(self) -> Duration;
    /// Returns this number of hours.
    fn hours(self) -> Duration;
}

impl DurationExt for u32 {
    fn millis(self) -> Duration {
        Duration::from_millis(self.into())
    }

    fn secs(self) -> Duration {
        Duration::from_secs(self.into())
    }

    fn mins(self) -> Duration {
        Duration::from_secs(60 * u64::from(self))
    }

    fn hours(self) -> Duration {
        Duration::from_secs(3_600 * u64::from(self))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{DurationExt, Ttl};

    #[test]
    fn a_ttl_must_be_a_positive_whole_number_of_milliseconds_up_to_its_limit() {
        let day = Duration::from_secs(86_400);
        for bad in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(1_500)] {
            assert!(Ttl::new(bad).is_err(), "{bad:?}");
        }
        assert!(Ttl::new(3_650 * day).is_ok());
        assert!(Ttl::new(3_651 * day).is_err());
        for bad in ["", "0s", "-1s", "1500us", "soon", "1e9y"] {
            assert!(bad.parse::<Ttl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_ttl_of_zero_is_named_as_users_write_it() {
        let text = Ttl::new(Duration::ZERO).unwrap_err().to_string();
        assert_eq!(text, "ttl 0s is not a positive whole number of milliseconds");
    }

    #[test]
    fn the_margin_is_a_twentieth_of_the_ttl_at_least_50_ms_at_most_half_of_it() {
        for (millis, margin) in [(30_000, 1_500), (1_000, 50), (400, 50), (60, 30), (2, 1)] {
            let ttl = Ttl::new(Duration::from_millis(millis)).unwrap();
            assert_eq!(ttl.margin(), Duration::from_millis(margin), "{millis}");
        }
    }

    #[test]
    fn durations_are_parsed_from_text() {
        for (text, duration) in
            [("30s", 30.secs()), ("10m", 10.mins()), ("1h30m", 90.mins()), ("250ms", 250.millis())]
        {
            assert_eq!(text.parse::<Ttl>().unwrap().as_duration(), duration, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_ttl_round_trips_through_text_and_serde(millis in 1u64..=315_360_000_000) {
            let ttl = Ttl::new(Duration::from_millis(millis)).unwrap();
            prop_assert_eq!(ttl.to_string().parse::<Ttl>().unwrap(), ttl);
            let json = serde_json::to_string(&ttl).unwrap();
            prop_assert_eq!(serde_json::from_str::<Ttl>(&json).unwrap(), ttl);
        }
    }
}
