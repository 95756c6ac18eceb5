//! Decides whether a lease is still held: by the local clock, and by what replies reveal of the
//! store's clock, which can only end a lease.

use std::{fmt, time::Duration};

use crate::{BootInstant, Ttl};

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its holder released it, or keeps it at the store until it expires.
    Released,
    /// It was lost while in use.
    Lost(Loss),
}

/// Describes how a lock was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The local deadline passed before an extend succeeded.
    Expired,
    /// The store reported that the lock is no longer held under this id.
    NotHeld,
    /// The lock was held for as long as `max_hold` allows.
    MaxHold,
    /// The [scope](crate::LockManager::child) of the lock was cancelled.
    Cancelled,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its deadline passed before it was extended",
            Self::NotHeld => "the store no longer holds it under this id",
            Self::MaxHold => "it was held for as long as max_hold allows",
            Self::Cancelled => "its scope was cancelled",
        })
    }
}

/// The state of a lease, which changes with requests, replies and time.
///
/// **Invariant:** `deadline` is never later than any expiry that the store may hold for the grant,
/// less the [margin](Ttl::margin). It follows from three facts. The store counts a ttl from the
/// moment when it handles a request, which is never before the request was sent. The deadline is
/// lowered *before* an extend with a shorter ttl is sent, because that extend may apply even if no
/// reply is received. And an extend without a reply may apply at any later time, so its ttl bounds
/// every later deadline too (`in_doubt`).
///
/// **Invariant:** a lease that has ended stays ended; no late reply revives it.
#[derive(Debug)]
pub(crate) struct Validity {
    deadline: BootInstant,
    ttl: Ttl,
    in_doubt: Option<Ttl>,
    prior_doubt: Option<Ttl>,
    end: Option<End>,
    /// The longest ttl that was ever requested: a grant that is not released lasts at most as long.
    longest_ttl: Ttl,
    max_hold_until: Option<BootInstant>,
    /// When the grant expires by the store's clock, less the margin. Unless that clock jumps, this
    /// is never before the deadline.
    store_deadline: Option<BootInstant>,
}

impl Validity {
    /// Starts a lease whose acquire was sent at `sent`.
    pub(crate) fn granted(sent: BootInstant, ttl: Ttl, max_hold: Option<Duration>) -> Self {
        let deadline = deadline(sent, ttl);
        Self {
            deadline,
            ttl,
            in_doubt: None,
            prior_doubt: None,
            end: None,
            longest_ttl: ttl,
            max_hold_until: max_hold.map(|max_hold| sent + max_hold),
            store_deadline: None,
        }
    }

    /// Sets until when the lease may be held, for a hold that starts later than its grant.
    pub(crate) fn start_max_hold(&mut self, until: BootInstant) {
        self.max_hold_until = Some(until);
    }

    /// Sets when the grant expires by the store's clock, if that is known.
    pub(crate) fn set_store_expiry(&mut self, expiry: Option<BootInstant>) {
        let margin = self.ttl.margin();
        self.store_deadline =
            expiry.map(|expiry| BootInstant::from_boot(expiry.since_boot().saturating_sub(margin)));
    }

    /// Returns how the lease had ended by `now`, or `None` if it had not.
    pub(crate) fn end_at(&mut self, now: BootInstant) -> Option<End> {
        let (expiry, loss) = self.expiry();
        if now >= expiry {
            self.end(End::Lost(loss));
        }
        self.end
    }

    /// Returns the time left until the deadline, or how the lease ended.
    pub(crate) fn remaining(&mut self, now: BootInstant) -> Result<Duration, End> {
        self.end_at(now).map_or(Ok(self.expiry().0.since(now)), Err)
    }

    /// Returns when the lease expires on its own, and why.
    fn expiry(&self) -> (BootInstant, Loss) {
        let deadline = self.store_deadline.map_or(self.deadline, |store| store.min(self.deadline));
        match self.max_hold_until {
            Some(until) if until < deadline => (until, Loss::MaxHold),
            _ => (deadline, Loss::Expired),
        }
    }

    /// Ends the lease, unless it has ended before. Returns how it ended.
    pub(crate) fn end(&mut self, end: End) -> End {
        *self.end.get_or_insert(end)
    }

    /// Records that an extend is about to be sent. At most one is in flight.
    pub(crate) fn extend_sent(&mut self, sent: BootInstant, ttl: Ttl) {
        self.deadline = self.deadline.min(deadline(sent, ttl));
        self.longest_ttl = self.longest_ttl.max(ttl);
        self.prior_doubt = self.in_doubt;
        self.in_doubt = Some(self.shortened(ttl));
    }

    /// Records that the extend sent at `sent` succeeded; a lease that ended meanwhile stays ended.
    pub(crate) fn extend_succeeded(&mut self, sent: BootInstant, ttl: Ttl, now: BootInstant) {
        self.extend_settled();
        if self.end_at(now).is_none() {
            self.deadline = deadline(sent, self.shortened(ttl));
            self.ttl = ttl;
        }
    }

    /// Records that the extend in flight was not applied, or that its reply was processed.
    pub(crate) fn extend_settled(&mut self) {
        self.in_doubt = self.prior_doubt;
    }

    /// Returns the ttl that the next renewal requests.
    pub(crate) fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Returns the longest ttl that may be in force at the store.
    pub(crate) fn longest_ttl(&self) -> Ttl {
        self.longest_ttl
    }

    /// Returns the shortest ttl that may be in force at the store.
    pub(crate) fn shortest_ttl(&self) -> Duration {
        self.shortened(self.ttl).as_duration()
    }

    /// Returns `ttl`, or that of an extend in doubt if it is shorter.
    fn shortened(&self, ttl: Ttl) -> Ttl {
        self.in_doubt.map_or(ttl, |doubt| doubt.min(ttl))
    }
}

fn deadline(sent: BootInstant, ttl: Ttl) -> BootInstant {
    sent + (ttl.as_duration() - ttl.margin())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{End, Loss, Validity};
    use crate::{BootInstant, Ttl};

    fn at(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn ttl(millis: u64) -> Ttl {
        Ttl::new(Duration::from_millis(millis)).unwrap()
    }

    #[test]
    fn a_clock_of_the_store_that_is_ahead_ends_a_lease_early_and_an_accurate_one_does_not() {
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        lease.set_store_expiry(Some(at(1_000)));
        assert_eq!(lease.remaining(at(0)), Ok(Duration::from_millis(950)));
        lease.set_store_expiry(Some(at(600)));
        assert_eq!(lease.remaining(at(0)), Ok(Duration::from_millis(550)));
        assert_eq!(lease.end_at(at(550)), Some(End::Lost(Loss::Expired)));
        lease.set_store_expiry(Some(at(1_000)));
        assert_eq!(lease.end_at(at(550)), Some(End::Lost(Loss::Expired)), "it stays lost");
    }

    #[test]
    fn a_lease_is_lost_at_its_deadline_and_a_late_extend_does_not_revive_it() {
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        assert_eq!(lease.end_at(at(949)), None);
        lease.extend_sent(at(900), ttl(1_000));
        lease.extend_succeeded(at(900), ttl(1_000), at(951));
        assert_eq!(lease.end_at(at(951)), Some(End::Lost(Loss::Expired)));
        assert_eq!(lease.end_at(at(0)), Some(End::Lost(Loss::Expired)));
    }

    #[test]
    fn a_shorter_extend_counts_from_the_moment_it_is_sent() {
        let mut lease = Validity::granted(at(0), ttl(60_000), None);
        lease.extend_sent(at(1_000), ttl(1_000));
        assert_eq!(lease.end_at(at(1_950)), Some(End::Lost(Loss::Expired)));
    }

    #[test]
    fn a_lease_ends_at_its_deadline_or_after_its_longest_hold_whichever_is_sooner() {
        for (max_hold, end, loss) in [(500, 500, Loss::MaxHold), (2_000, 950, Loss::Expired)] {
            let max_hold = Some(Duration::from_millis(max_hold));
            let mut lease = Validity::granted(at(0), ttl(1_000), max_hold);
            assert_eq!(lease.remaining(at(0)), Ok(Duration::from_millis(end)));
            assert_eq!(lease.end_at(at(end - 1)), None);
            assert_eq!(lease.end_at(at(end)), Some(End::Lost(loss)));
        }
    }

    #[test]
    fn a_short_extend_bounds_later_ones_until_its_reply_arrives() {
        let short = Duration::from_millis(400);
        let full = Duration::from_millis(1_000);
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        lease.extend_sent(at(0), ttl(400));
        lease.extend_succeeded(at(0), ttl(400), at(1));
        assert_eq!(
            (lease.shortest_ttl(), lease.remaining(at(1))),
            (short, Ok(Duration::from_millis(349)))
        );
        lease.extend_sent(at(10), ttl(1_000));
        lease.extend_succeeded(at(10), ttl(1_000), at(11));
        assert_eq!(
            (lease.shortest_ttl(), lease.remaining(at(11))),
            (full, Ok(Duration::from_millis(949)))
        );
        lease.extend_sent(at(20), ttl(400));
        lease.extend_sent(at(30), ttl(1_000));
        lease.extend_succeeded(at(30), ttl(1_000), at(31));
        assert_eq!(
            (lease.shortest_ttl(), lease.remaining(at(31))),
            (short, Ok(Duration::from_millis(349)))
        );
    }

    #[test]
    fn renewals_request_the_ttl_of_the_last_reply_and_the_longest_requested_ttl_is_kept() {
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        assert_eq!((lease.ttl(), lease.longest_ttl()), (ttl(1_000), ttl(1_000)));
        lease.extend_sent(at(10), ttl(5_000));
        assert_eq!((lease.ttl(), lease.longest_ttl()), (ttl(1_000), ttl(5_000)));
        lease.extend_succeeded(at(10), ttl(5_000), at(11));
        lease.extend_sent(at(20), ttl(2_000));
        lease.extend_succeeded(at(20), ttl(2_000), at(21));
        assert_eq!((lease.ttl(), lease.longest_ttl()), (ttl(2_000), ttl(5_000)));
    }

    /// An extend that a store receives: any of them may apply, in any order, at any time after it
    /// was sent, whether or not its reply arrives.
    #[derive(Clone, Debug)]
    struct Extend {
        after: u64,
        ttl: u64,
        reply_after: Option<u64>,
        applied_after: u64,
    }

    fn extends() -> impl Strategy<Value = Vec<Extend>> {
        let extend = (0u64..3_000, 20u64..5_000, proptest::option::of(0u64..2_000), 0u64..9_000);
        let extend = extend.prop_map(|(after, ttl, reply_after, late)| Extend {
            after,
            ttl,
            reply_after,
            // An extend with a reply was applied before its reply.
            applied_after: reply_after.map_or(late, |reply| late % (reply + 1)),
        });
        proptest::collection::vec(extend, 0..8)
    }

    proptest! {
        #[test]
        fn a_lease_is_never_valid_when_the_store_may_have_let_it_expire(
            first in 20u64..5_000, plan in extends()
        ) {
            let mut lease = Validity::granted(at(0), ttl(first), None);
            // The store's writes as (time of effect, ttl), and the spans in which the lease was
            // valid.
            let mut writes = vec![(0, first)];
            let mut valid_at = Vec::new();
            let mut now = 0;
            for extend in &plan {
                now += extend.after;
                if lease.end_at(at(now)).is_some() { break }
                valid_at.push(now);
                lease.extend_sent(at(now), ttl(extend.ttl));
                writes.push((now + extend.applied_after, extend.ttl));
                let sent = now;
                now += extend.reply_after.unwrap_or(500);
                if extend.reply_after.is_some() {
                    lease.extend_succeeded(at(sent), ttl(extend.ttl), at(now));
                }
                if lease.end_at(at(now)).is_none() { valid_at.push(now) }
            }
            while lease.end_at(at(now)).is_none() { valid_at.push(now); now += 10 }
            writes.sort_unstable();
            for moment in valid_at {
                let (written, ttl) = *writes.iter().rfind(|(time, _)| *time <= moment).unwrap();
                let expired = written + ttl;
                prop_assert!(moment < expired, "valid at {moment}, expired at {expired}");
            }
        }

        #[test]
        fn an_ended_lease_stays_ended(times in proptest::collection::vec(0u64..10_000, 1..20)) {
            let mut lease = Validity::granted(at(0), ttl(1_000), None);
            lease.end(End::Released);
            for time in times {
                lease.extend_sent(at(time), ttl(9_000));
                lease.extend_succeeded(at(time), ttl(9_000), at(time));
                prop_assert_eq!(lease.end_at(at(time)), Some(End::Released));
            }
        }
    }
}
