//! Comparison of the store's clock with the local clock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{BootInstant, Timestamp, Ttl, backend::ClockAuthority};

/// The smallest jump of the store's clock against the local one, between two replies, that is
/// logged. A clock that is slewed moves half a millisecond per second; this is half of the grace
/// period.
const MIN_LOGGED_JUMP_MS: i64 = 500;

/// The smallest jump ahead for which leases are checked again at once. The margin covers a shorter
/// one.
const MIN_JUMP_MS: i64 = 50;

/// Computes when a grant expires by the store's clock, from the store's replies.
///
/// The *store's* clock decides when a lock ends. If that clock jumps ahead by `j`, every grant ends
/// `j` sooner than its holder computes from the time of its request. The reply to any acquire or
/// extend contains the store's current time, which is the new expiry less the ttl, and therefore
/// the offset between the two clocks.
///
/// **Invariant:** without a jump, no lease ends because of this. A reply that was received at `r`
/// was made at some `t <= r`, when the store's clock stood at `t + o`, so the offset computed from
/// it is `t + o - r <= o`: never more than the true offset `o`. With it, a grant that was requested
/// at `s` and made at `m >= s` ends at `m + ttl` or later, less the margin, which is not before the
/// deadline `s + ttl - margin` at which the lease ends in any case.
///
/// After a jump ahead, the error is that much in the other direction: the lease may count as held
/// for as long as the last reply was in flight, which the margin and the store's grace period
/// cover. After a jump back, grants last longer than their holders assume, which is harmless.
///
/// A jump is detected only by a reply. A holder that neither renews nor receives another reply of
/// the store does not detect it; then only the fence, at the resource, protects the work.
#[derive(Debug, Default)]
pub(crate) struct StoreClock {
    latest: Mutex<Option<Reading>>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    store_ms: i64,
    sent: BootInstant,
    received: BootInstant,
}

impl StoreClock {
    /// Returns `None` if the store has no clock of its own: clients' clocks are not compared with
    /// themselves, and the clocks of several nodes differ.
    pub(crate) fn new(authority: ClockAuthority) -> Option<Self> {
        (authority == ClockAuthority::Store).then(Self::default)
    }

    /// Records the reply to a request that set a grant to last for `ttl` from the store's current
    /// time. Returns whether the store's clock has jumped ahead, so that grants expire sooner.
    pub(crate) fn record_reply(
        &self,
        expires_at: Timestamp,
        ttl: Ttl,
        sent: BootInstant,
        received: BootInstant,
    ) -> bool {
        let ttl_ms = i64::try_from(ttl.as_duration().as_millis()).unwrap_or(i64::MAX);
        let store_ms = expires_at.unix_millis().saturating_sub(ttl_ms);
        let jump_ms = self.record(Reading { store_ms, sent, received });
        if jump_ms.abs() > MIN_LOGGED_JUMP_MS {
            tracing::warn!(
                target: "syncguard",
                jump_ms,
                "the store's clock jumped; locks may expire early"
            );
        }
        jump_ms >= MIN_JUMP_MS
    }

    /// Returns when a grant with this expiry at the store expires, on the local clock.
    pub(crate) fn local_expiry(&self, expires_at: Timestamp) -> Option<BootInstant> {
        let latest = (*self.latest())?;
        let left = expires_at.unix_millis().saturating_sub(latest.store_ms);
        // A negative number of milliseconds means that the grant has ended.
        let left = std::time::Duration::from_millis(u64::try_from(left).unwrap_or_default());
        Some(latest.received + left)
    }

    /// Stores the reading unless the stored one is newer: replies may arrive out of the order of
    /// their requests. Returns by how much the store's clock jumped at least.
    fn record(&self, reading: Reading) -> i64 {
        let mut latest = self.latest();
        let before = match *latest {
            Some(before) if before.sent > reading.sent => return 0,
            before => before,
        };
        *latest = Some(reading);
        drop(latest);
        let Some(before) = before else { return 0 };
        let moved = reading.store_ms - before.store_ms;
        let max = millis_between(before.sent, reading.received);
        let min = millis_between(before.received, reading.sent);
        moved - moved.clamp(min, max)
    }

    fn latest(&self) -> MutexGuard<'_, Option<Reading>> {
        // Nothing panics while it is locked.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time between two instants in milliseconds.
fn millis_between(from: BootInstant, to: BootInstant) -> i64 {
    i64::try_from(to.since(from).as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Reading, StoreClock};
    use crate::{BootInstant, Timestamp, Ttl, backend::ClockAuthority};

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(ms))
    }

    fn reading(store_ms: i64, sent_ms: u64, received_ms: u64) -> Reading {
        Reading { store_ms, sent: at(sent_ms), received: at(received_ms) }
    }

    fn clock() -> StoreClock {
        StoreClock::new(ClockAuthority::Store).unwrap()
    }

    #[test]
    fn an_accurate_clock_is_not_reported_however_slow_the_replies_are() {
        let clock = clock();
        assert_eq!(clock.record(reading(10_000, 0, 1)), 0);
        assert_eq!(clock.record(reading(12_000, 1_500, 9_000)), 0);
        assert_eq!(clock.record(reading(19_000, 9_000, 9_010)), 0);
    }

    #[test]
    fn a_jump_is_reported_by_its_lower_bound() {
        let clock = clock();
        assert_eq!(clock.record(reading(10_000, 0, 2)), 0);
        assert_eq!(clock.record(reading(42_000, 1_000, 1_001)), 30_999);
        assert_eq!(clock.record(reading(12_000, 1_010, 1_011)), -30_009);
    }

    #[test]
    fn replies_out_of_the_order_of_their_requests_are_not_reported() {
        let clock = clock();
        assert_eq!(clock.record(reading(15_000, 5_000, 5_001)), 0);
        assert_eq!(clock.record(reading(10_000, 0, 5_002)), 0);
        assert_eq!(clock.record(reading(15_010, 5_010, 5_011)), 0);
    }

    #[test]
    fn a_jump_ahead_ends_a_grant_that_much_sooner() {
        let clock = clock();
        clock.record(reading(10_000, 0, 2));
        let expires_at = Timestamp::from_unix_millis(40_000);
        assert_eq!(clock.local_expiry(expires_at), Some(at(30_002)));
        clock.record(reading(42_000, 1_000, 1_001));
        assert_eq!(clock.local_expiry(expires_at), Some(at(1_001)), "it has expired");
    }

    #[test]
    fn a_reply_contains_the_stores_current_time_as_its_expiry_less_the_ttl() {
        let (clock, ttl) = (clock(), Ttl::new(Duration::from_secs(30)).unwrap());
        assert_eq!(clock.local_expiry(Timestamp::from_unix_millis(40_000)), None);
        clock.record_reply(Timestamp::from_unix_millis(40_000), ttl, at(0), at(2));
        assert_eq!(clock.local_expiry(Timestamp::from_unix_millis(40_000)), Some(at(30_002)));
        assert_eq!(clock.local_expiry(Timestamp::from_unix_millis(10_500)), Some(at(502)));
    }

    #[test]
    fn clocks_of_clients_and_of_several_nodes_are_not_compared() {
        for authority in [ClockAuthority::Client, ClockAuthority::Nodes] {
            assert!(StoreClock::new(authority).is_none());
        }
    }

    proptest! {
        /// Each reply is made while its request is in flight, on a clock with a constant offset.
        #[test]
        fn without_a_jump_no_grant_expires_before_its_ttl_has_passed_since_its_request(
            offset in -1_000_000i64..1_000_000,
            replies in proptest::collection::vec((0u64..100_000, 0u64..5_000, 0u64..5_000), 1..20),
            ttl in 1_000u64..60_000,
        ) {
            let clock = clock();
            for (sent, there, back) in &replies {
                let store_ms = (sent + there) as i64 + 10_000_000 + offset;
                clock.record(reading(store_ms, *sent, sent + there + back));
            }
            for (sent, there, _) in replies {
                let made = (sent + there) as i64 + 10_000_000 + offset;
                let expires_at = Timestamp::from_unix_millis(made + ttl as i64);
                prop_assert!(clock.local_expiry(expires_at).unwrap() >= at(sent + ttl));
            }
        }
    }
}
