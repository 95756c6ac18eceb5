//! The server's clock, as derived from its answers.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use syncguard_core::{BootClock, BootInstant, Clock, Timestamp};

/// The least skew of the local wall clock that is reported.
pub(crate) const MIN_REPORTED_SKEW: Duration = Duration::from_millis(200);

/// How far two synchronized clocks may drift apart: one part in this many, or half a millisecond
/// per second, the most by which a clock is slewed.
const DRIFT: u32 = 2_000;

/// The maximum uncertainty of the server's time for an extend that does not read it first.
const MAX_UNCERTAINTY: Duration = Duration::from_millis(500);

/// Tracks the time that each answer of the server carries.
///
/// # What it decides, and what it does not
///
/// The server's clock decides when a grant has expired; this client's wall clock decides nothing.
/// The boot clock only measures how much time has passed since an answer. [`now`](Self::now)
/// compares it with the server's clock, and its bounds save an extend the request for the server's
/// time.
///
/// The wall clock is compared with the server's for the sake of others: a TypeScript client on this
/// host judges by the wall clock whether a lock has expired.
#[derive(Debug)]
pub(crate) struct ServerClock {
    report: Report,
    best: Mutex<Option<Reading>>,
    skew: Mutex<Option<Skew>>,
}

/// Whether a skew of the wall clock is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Log,
    Silence,
}

/// A moment before something was sent, on both local clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    boot: BootInstant,
    wall: i64,
}

/// A reading of the server's clock between two moments of the boot clock, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Reading {
    server: i64,
    sent: BootInstant,
    received: BootInstant,
}

/// The earliest and the latest present time of the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) earliest: Timestamp,
    pub(crate) latest: Timestamp,
}

/// By how many milliseconds the local wall clock is at least ahead of the server's; negative if it
/// is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skew(pub(crate) i64);

impl Sent {
    pub(crate) fn now() -> Self {
        Self { boot: BootClock.now(), wall: wall() }
    }

    /// Returns the time since then.
    pub(crate) fn elapsed(self) -> Duration {
        BootClock.now().since(self.boot)
    }
}

impl ServerClock {
    pub(crate) fn new(report: Report) -> Self {
        Self { report, best: Mutex::default(), skew: Mutex::default() }
    }

    /// Records the time of the answer to a request that was sent at `sent`, in microseconds.
    pub(crate) fn observe(&self, server: i64, sent: Sent) {
        let received = Sent::now();
        self.keep_best(Reading { server, sent: sent.boot, received: received.boot });
        self.compare(server, sent.wall, received.wall);
    }

    /// Returns the bounds of the server's present time, if they are close enough.
    pub(crate) fn now(&self) -> Option<Bounds> {
        let (earliest, latest) = lock(&self.best).as_ref()?.bounds(BootClock.now());
        let close = latest - earliest <= micros(MAX_UNCERTAINTY);
        close.then(|| Bounds { earliest: timestamp(earliest), latest: timestamp(latest) })
    }

    /// Returns the skew of the wall clock if it should be reported.
    pub(crate) fn skew(&self) -> Option<Skew> {
        *lock(&self.skew)
    }

    /// Keeps the reading that bounds the present most closely. A reading that contradicts the last
    /// one is always kept: a clock was set.
    fn keep_best(&self, reading: Reading) {
        let mut best = lock(&self.best);
        let better = best.is_none_or(|best| {
            let (known, new) = (best.bounds(reading.received), reading.bounds(reading.received));
            let disjoint = known.1 < new.0 || new.1 < known.0;
            disjoint || new.1 - new.0 <= known.1 - known.0
        });
        if better {
            *best = Some(reading);
        }
    }

    /// Compares the wall clock with the server's, and logs a skew once for each change of it.
    ///
    /// A slow answer proves little: it counts only if it proves that there is a skew, or that there
    /// is not.
    fn compare(&self, server: i64, sent: i64, received: i64) {
        let (least, most) = ((sent - server) / 1_000, (received - server) / 1_000);
        let threshold = millis(MIN_REPORTED_SKEW);
        let reported = match () {
            () if least >= threshold => Some(Skew(least)),
            () if most <= -threshold => Some(Skew(most)),
            () if most < threshold && least > -threshold => None,
            () => return,
        };
        let mut skew = lock(&self.skew);
        let changed = match (*skew, reported) {
            (Some(Skew(before)), Some(Skew(now))) => {
                before.saturating_sub(now).saturating_abs() >= threshold
            }
            (before, now) => before.is_some() != now.is_some(),
        };
        if !changed {
            return;
        }
        *skew = reported;
        drop(skew);
        if self.report == Report::Log {
            log(reported);
        }
    }
}

fn log(skew: Option<Skew>) {
    match skew {
        Some(Skew(skew_ms)) => tracing::warn!(
            skew_ms,
            "the local wall clock is apart from the server's; locks of this backend are safe, \
             those of a TypeScript client on this host are not"
        ),
        None => tracing::info!("the local wall clock agrees with the server's again"),
    }
}

impl Skew {
    /// Describes it as a setting.
    pub(crate) fn setting(self) -> String {
        let Self(millis) = self;
        let side = if millis > 0 { "ahead" } else { "behind" };
        format!("a local wall clock that is {} ms {side}", millis.unsigned_abs())
    }
}

impl Reading {
    /// Returns the earliest and the latest time of the server's clock at a moment after this was
    /// received.
    ///
    /// The clock was read between sending and receiving. So at least the time since receiving has
    /// passed since the reading, and at most the time since sending. The clocks may have drifted
    /// apart meanwhile.
    fn bounds(self, now: BootInstant) -> (i64, i64) {
        let (least, most) = (now.since(self.received), now.since(self.sent));
        let earliest = self.server + micros(least) - micros(least / DRIFT);
        (earliest, self.server + micros(most) + micros(most / DRIFT))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while the mutex is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the local wall clock, in microseconds since the Unix epoch.
fn wall() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Converts into the timestamp of a document: whole milliseconds, rounded down as everywhere.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_unix_millis(micros.div_euclid(1_000))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use syncguard_core::BootInstant;

    use super::{Reading, Report, ServerClock, Skew, micros};

    fn at(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn reading(server_ms: i64, sent_ms: u64, received_ms: u64) -> Reading {
        Reading { server: server_ms * 1_000, sent: at(sent_ms), received: at(received_ms) }
    }

    fn reported_skews(skews: &[(i64, i64)]) -> Vec<Option<i64>> {
        let clock = ServerClock::new(Report::Silence);
        let reported_skews = skews.iter().map(|(least, most)| {
            clock.compare(0, least * 1_000, most * 1_000);
            clock.skew().map(|Skew(skew)| skew)
        });
        reported_skews.collect()
    }

    #[test]
    fn a_skew_is_reported_by_its_lower_bound() {
        assert_eq!(reported_skews(&[(199, 200)]), [None]);
        assert_eq!(
            reported_skews(&[(200, 205), (-10, 10), (-300, -250)]),
            [Some(200), None, Some(-250)]
        );
        assert_eq!(reported_skews(&[(90_000, 90_001), (90_100, 90_101)]), [Some(90_000); 2]);
    }

    #[test]
    fn a_slow_response_reports_no_skew_that_it_does_not_prove() {
        assert_eq!(reported_skews(&[(-5_000, 5_000), (100, 400)]), [None; 2]);
        assert_eq!(reported_skews(&[(400, 401), (0, 5_000)]), [Some(400); 2]);
    }

    #[test]
    fn the_most_precise_reading_is_kept_until_it_ages() {
        let clock = ServerClock::new(Report::Silence);
        clock.keep_best(reading(10_000, 0, 10));
        clock.keep_best(reading(10_100, 50, 250));
        assert_eq!(clock.best.lock().unwrap().unwrap().server, 10_000_000);
        clock.keep_best(reading(10_000_000 + 10_000, 10_000_000, 10_000_100));
        assert_eq!(clock.best.lock().unwrap().unwrap().server, 10_010_000_000);
    }

    #[test]
    fn a_reading_after_the_clock_was_set_is_kept() {
        let clock = ServerClock::new(Report::Silence);
        clock.keep_best(reading(10_000, 0, 10));
        clock.keep_best(reading(100_000, 20, 220));
        assert_eq!(clock.best.lock().unwrap().unwrap().server, 100_000_000);
    }

    proptest! {
        #[test]
        fn the_bounds_contain_the_servers_current_time(
            start in 0i64..10_000_000, sent in 0u64..1_000, there in 0u64..500, back in 0u64..500,
            later in 0u64..10_000_000
        ) {
            let read = sent + there;
            let clock = |boot: u64| start * 1_000 + micros(Duration::from_millis(boot));
            let (received, now) = (at(read + back), read + back + later);
            let reading = Reading { server: clock(read), sent: at(sent), received };
            let (earliest, latest) = reading.bounds(at(now));
            prop_assert!(earliest <= clock(now) && clock(now) <= latest);
        }
    }
}
