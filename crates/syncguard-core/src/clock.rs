//! The local clock, which decides whether leases are valid.

use std::{
    fmt,
    ops::Add,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A point in time on the local boot clock.
///
/// Unlike [`std::time::Instant`], it keeps counting while the machine sleeps, so a lease that ended
/// during a suspend is known to have ended on waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Creates an instant `since_boot` after the start of the clock.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Returns the time since the start of the clock.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Returns the time from `earlier` to this instant, or zero if `earlier` is not earlier.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use syncguard_core::{BootInstant, DurationExt};
    ///
    /// let earlier = BootInstant::from_boot(10.secs());
    /// let later = earlier + 3.secs();
    /// assert_eq!(later.since(earlier), 3.secs());
    /// assert_eq!(earlier.since(later), Duration::ZERO);
    /// ```
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Provides the time that decides whether leases are valid. The default is [`BootClock`].
///
/// Time must never go back. Use a clock other than the default in tests only.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the current instant.
    fn now(&self) -> BootInstant;
}

/// Reads the system clock that counts through sleep: `CLOCK_BOOTTIME` on Linux and Android.
///
/// Apple's `CLOCK_MONOTONIC` counts through sleep already. Other systems fall back to
/// [`std::time::Instant`], which may stop while the machine sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    #[cfg(unix)]
    fn now(&self) -> BootInstant {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(CLOCK);
        // The kernel returns a time since boot, which is never negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        BootInstant(Duration::new(seconds, nanos))
    }

    #[cfg(not(unix))]
    fn now(&self) -> BootInstant {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        BootInstant(START.get_or_init(std::time::Instant::now).elapsed())
    }
}

/// A clock that moves only when it is advanced, for tests.
///
/// # Examples
///
/// ```
/// use syncguard_core::{Clock, DurationExt, ManualClock};
///
/// let clock = ManualClock::default();
/// let start = clock.now();
/// clock.advance(90.secs());
/// assert_eq!(clock.now().since(start), 90.secs());
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Advances the clock, by whole nanoseconds.
    pub fn advance(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> BootInstant {
        BootInstant(Duration::from_nanos(self.0.load(Ordering::SeqCst)))
    }
}

#[cfg(test)]
mod tests {
    use super::{BootClock, Clock};

    #[cfg(target_os = "linux")]
    #[test]
    fn the_boot_clock_agrees_with_the_kernels_uptime() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let kernel: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let ours = BootClock.now().since_boot().as_secs_f64();
        assert!((0.0..5.0).contains(&(ours - kernel)), "{ours} instead of {kernel}");
    }
}
