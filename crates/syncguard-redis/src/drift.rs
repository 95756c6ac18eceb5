//! Jumps of the server's clock.

use std::sync::{Mutex, PoisonError};

use syncguard_core::{BootClock, BootInstant, Clock, Timestamp};

/// How far the server's clock may get ahead of the local one between two replies. A clock that is
/// slewed moves half a millisecond in a second; this is half of the grace.
const TOLERANCE_MS: i64 = 500;

/// Compares the server's clock with the local boot clock from one reply to the next.
///
/// # What a jump does, and what it does not
///
/// A lock ends when the *server's* clock says so. If that clock jumps ahead by `j`, every grant ends
/// `j` sooner than its holder thinks, and the key may be granted to somebody else while the holder
/// still counts on it. Nothing that a client does can prevent that; the fence stops it at the resource.
///
/// What an extend says remains true nevertheless. It succeeds only where the record is still that of
/// its id. A grant to anybody else would have replaced the record, and no grant under the same id can
/// have followed, because nobody asks with it any more. So an extend that succeeds proves that nobody
/// else was granted the key in between, jump or not, and one that came too late finds nothing and is
/// told so: there is nothing to pretend. What is left to do is to tell people that the clock is not
/// to be relied upon. A holder that renews at a third of its ttl learns of its loss by then at the
/// latest.
#[derive(Debug, Default)]
pub(crate) struct Drift(Mutex<Option<Reading>>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    server_ms: i64,
    sent: BootInstant,
    received: BootInstant,
}

impl Drift {
    /// Takes a reading of the server's clock, made at some time since `sent`.
    pub(crate) fn observe(&self, server: Timestamp, sent: BootInstant) {
        let reading = Reading { server_ms: server.unix_millis(), sent, received: BootClock.now() };
        if let Some(jump) = self.jump(reading) {
            tracing::warn!(
                jump_ms = jump,
                "the server's clock jumped; locks may have ended before their time"
            );
        }
    }

    /// Gives the least by which the server's clock must have jumped, if that is beyond the tolerance.
    ///
    /// Replies need not come in the order of their readings. Both bounds hold in any order, so an
    /// older reading than the last raises no alarm; it is kept from becoming the last.
    fn jump(&self, reading: Reading) -> Option<i64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match *last {
            Some(before) if before.sent > reading.sent => return None,
            Some(before) => before,
            None => {
                *last = Some(reading);
                return None;
            }
        };
        *last = Some(reading);
        let moved = reading.server_ms - before.server_ms;
        let at_most = millis(before.sent, reading.received);
        let at_least = millis(before.received, reading.sent);
        match () {
            () if moved - at_most > TOLERANCE_MS => Some(moved - at_most),
            () if at_least - moved > TOLERANCE_MS => Some(moved - at_least),
            () => None,
        }
    }
}

/// Gives the time between two instants in milliseconds.
fn millis(from: BootInstant, to: BootInstant) -> i64 {
    i64::try_from(to.since(from).as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::BootInstant;

    use super::{Drift, Reading};

    fn reading(server_ms: i64, sent_ms: u64, received_ms: u64) -> Reading {
        let at = |ms| BootInstant::from_boot(Duration::from_millis(ms));
        Reading { server_ms, sent: at(sent_ms), received: at(received_ms) }
    }

    #[test]
    fn a_server_that_keeps_time_raises_no_alarm_however_slow_its_replies() {
        let drift = Drift::default();
        assert_eq!(drift.jump(reading(10_000, 0, 1)), None);
        assert_eq!(drift.jump(reading(12_000, 1_500, 9_000)), None);
        assert_eq!(drift.jump(reading(19_000, 9_000, 9_010)), None);
    }

    #[test]
    fn a_jump_is_told_by_what_it_is_at_least() {
        let drift = Drift::default();
        assert_eq!(drift.jump(reading(10_000, 0, 2)), None);
        assert_eq!(drift.jump(reading(42_000, 1_000, 1_001)), Some(30_999));
        assert_eq!(drift.jump(reading(12_000, 1_010, 1_011)), Some(-30_009));
    }

    #[test]
    fn replies_in_another_order_than_their_requests_raise_no_alarm() {
        let drift = Drift::default();
        assert_eq!(drift.jump(reading(15_000, 5_000, 5_001)), None);
        assert_eq!(drift.jump(reading(10_000, 0, 5_002)), None);
        assert_eq!(drift.jump(reading(15_010, 5_010, 5_011)), None);
    }
}
