//! Points in time with Firestore's resolution, and the server's clock.

use std::time::{Duration, SystemTime};

use gcloud_sdk::prost_types::Timestamp;
use tonic::Status;

const MICROS_PER_SECOND: i64 = 1_000_000;
const NANOS_PER_MICRO: i32 = 1_000;

/// A point in time, in microseconds since the Unix epoch. Firestore has no finer resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(i64);

impl Time {
    /// A time after every other: a read as of then returns the latest state.
    pub(crate) const END: Self = Self(i64::MAX);

    /// A time before every other.
    pub(crate) const START: Self = Self(i64::MIN);

    #[cfg(test)]
    pub(crate) const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.0.to_be_bytes().into()
    }

    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

impl From<Time> for Timestamp {
    fn from(Time(micros): Time) -> Self {
        let nanos = i32::try_from(micros.rem_euclid(MICROS_PER_SECOND)).unwrap_or_default();
        Self { seconds: micros.div_euclid(MICROS_PER_SECOND), nanos: nanos * NANOS_PER_MICRO }
    }
}

impl TryFrom<&Timestamp> for Time {
    type Error = Status;

    fn try_from(timestamp: &Timestamp) -> Result<Self, Status> {
        if !(0..1_000_000_000).contains(&timestamp.nanos) || timestamp.nanos % NANOS_PER_MICRO != 0
        {
            return Err(Status::invalid_argument("a time is counted in whole microseconds"));
        }
        let micros = timestamp.seconds.checked_mul(MICROS_PER_SECOND);
        let micros = micros.and_then(|m| m.checked_add((timestamp.nanos / NANOS_PER_MICRO).into()));
        micros.map(Self).ok_or_else(|| Status::invalid_argument("the time is out of range"))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The offset of the server's clock from that of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockOffset {
    /// The clock is ahead by this much; zero is the clock of the host itself.
    Ahead(Duration),
    /// The clock is behind by this much.
    Behind(Duration),
}

/// The clock that dates documents.
///
/// **Invariant: a time that was issued is never later than one that is issued after it, and no two
/// commits have the same one.** What was read as of some time therefore stays true: every later
/// commit is dated after it.
#[derive(Debug)]
pub(crate) struct Clock {
    offset: ClockOffset,
    last: Time,
}

impl Clock {
    pub(crate) fn new(offset: ClockOffset) -> Self {
        Self { offset, last: Time(0) }
    }

    pub(crate) fn set_offset(&mut self, offset: ClockOffset) {
        self.offset = offset;
    }

    /// Dates a read.
    pub(crate) fn read(&mut self) -> Time {
        self.last = self.wall().max(self.last);
        self.last
    }

    /// Dates a commit.
    pub(crate) fn commit(&mut self) -> Time {
        self.last = self.wall().max(self.last.next());
        self.last
    }

    fn wall(&self) -> Time {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let host = micros(since);
        Time(match self.offset {
            ClockOffset::Ahead(by) => host.saturating_add(micros(by)),
            ClockOffset::Behind(by) => host.saturating_sub(micros(by)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gcloud_sdk::prost_types::Timestamp;

    use super::{Clock, ClockOffset, Time};

    #[test]
    fn a_time_survives_encoding_and_decoding() {
        for micros in [0, 1, -1, 1_700_000_000_123_456] {
            let timestamp = Timestamp::from(Time(micros));
            assert_eq!(Time::try_from(&timestamp).unwrap(), Time(micros));
        }
    }

    #[test]
    fn a_time_finer_than_microseconds_is_refused() {
        assert!(Time::try_from(&Timestamp { seconds: 1, nanos: 1_001 }).is_err());
        assert!(Time::try_from(&Timestamp { seconds: i64::MAX, nanos: 0 }).is_err());
    }

    #[test]
    fn no_two_commits_have_the_same_time() {
        let mut clock = Clock::new(ClockOffset::Ahead(Duration::ZERO));
        let times: Vec<Time> = (0..10_000).map(|_| clock.commit()).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_commit_is_dated_after_every_earlier_read() {
        let mut clock = Clock::new(ClockOffset::Ahead(Duration::ZERO));
        for _ in 0..1_000 {
            assert!(clock.read() < clock.commit());
        }
    }

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let mut clock = Clock::new(ClockOffset::Ahead(Duration::from_secs(90)));
        let ahead = clock.commit();
        clock.set_offset(ClockOffset::Behind(Duration::from_secs(90)));
        assert_eq!(clock.read(), ahead);
        assert_eq!(clock.commit(), ahead.next());
    }
}
