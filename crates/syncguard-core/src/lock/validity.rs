//! Whether a lease is still held: decided by the local clock, and ended early by what answers reveal of
//! the store's.

use std::{fmt, time::Duration};

use crate::{BootInstant, Ttl};

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its owner released it or let it expire on purpose.
    Given,
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
            Self::NotHeld => "the store holds it under this id no more",
            Self::MaxHold => "it was held for as long as max_hold allows",
            Self::Cancelled => "its scope was cancelled",
        })
    }
}

/// The state of a lease, which changes with requests, answers and time.
///
/// **Invariant:** `deadline` is never later than any expiry that the store may hold for the grant,
/// less the [margin](Ttl::margin). It follows from three facts. The store counts a ttl from the
/// moment when it handles a request, which is never before the request was sent. The deadline is
/// lowered *before* an extend with a shorter ttl is sent, because that extend may apply even if its
/// answer is never seen. And an extend whose answer was never seen may apply at any later time, so
/// its ttl bounds every later deadline too (`in_doubt`).
///
/// **Invariant:** once ended, always ended; no answer that arrives late revives a lease.
#[derive(Debug)]
pub(crate) struct Validity {
    deadline: BootInstant,
    ttl: Ttl,
    in_doubt: Option<Ttl>,
    settled_doubt: Option<Ttl>,
    end: Option<End>,
    /// The longest ttl that was ever requested: a grant that is not released lasts no longer.
    longest: Ttl,
    hold_until: Option<BootInstant>,
    /// When the grant is over by the store's clock, less the margin. Unless that clock jumps, this
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
            settled_doubt: None,
            end: None,
            longest: ttl,
            hold_until: max_hold.map(|max_hold| sent + max_hold),
            store_deadline: None,
        }
    }

    /// Records when the last answered expiry is reached by the store's clock, if that is known.
    pub(crate) fn over_at_the_store(&mut self, over: Option<BootInstant>) {
        let margin = self.ttl.margin();
        self.store_deadline =
            over.map(|over| BootInstant::from_boot(over.since_boot().saturating_sub(margin)));
    }

    /// Returns how the lease ended, after checking the clock.
    pub(crate) fn end_by(&mut self, now: BootInstant) -> Option<End> {
        let (over, loss) = self.over();
        if now >= over {
            self.end(End::Lost(loss));
        }
        self.end
    }

    /// Returns the time left until the deadline, or how the lease ended.
    pub(crate) fn remaining(&mut self, now: BootInstant) -> Result<Duration, End> {
        self.end_by(now).map_or(Ok(self.over().0.since(now)), Err)
    }

    /// Returns when the lease expires on its own, and why.
    fn over(&self) -> (BootInstant, Loss) {
        let deadline = self.store_deadline.map_or(self.deadline, |over| over.min(self.deadline));
        match self.hold_until {
            Some(until) if until < deadline => (until, Loss::MaxHold),
            _ => (deadline, Loss::Expired),
        }
    }

    /// Ends the lease, unless it has ended before. Returns how it ended.
    pub(crate) fn end(&mut self, end: End) -> End {
        *self.end.get_or_insert(end)
    }

    /// Records that an extend is about to be sent. At most one is in flight.
    pub(crate) fn extending(&mut self, sent: BootInstant, ttl: Ttl) {
        self.deadline = self.deadline.min(deadline(sent, ttl));
        self.longest = self.longest.max(ttl);
        self.settled_doubt = self.in_doubt;
        self.in_doubt = Some(self.bounded(ttl));
    }

    /// Records that the extend sent at `sent` succeeded; a lease that ended meanwhile stays ended.
    pub(crate) fn extended(&mut self, sent: BootInstant, ttl: Ttl, now: BootInstant) {
        self.extend_settled();
        if self.end_by(now).is_none() {
            self.deadline = deadline(sent, self.bounded(ttl));
            self.ttl = ttl;
        }
    }

    /// Records that the extend in flight certainly changed nothing, or that its answer was
    /// processed.
    pub(crate) fn extend_settled(&mut self) {
        self.in_doubt = self.settled_doubt;
    }

    /// Returns the ttl that the next renewal asks for.
    pub(crate) fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Returns the longest ttl that may be in force at the store.
    pub(crate) fn longest(&self) -> Ttl {
        self.longest
    }

    /// Returns the ttl by which renewals are timed: the shortest that may be in force.
    pub(crate) fn pace(&self) -> Duration {
        self.bounded(self.ttl).as_duration()
    }

    fn bounded(&self, ttl: Ttl) -> Ttl {
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
    fn a_store_whose_clock_is_ahead_ends_a_lease_and_one_that_keeps_time_does_not() {
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        lease.over_at_the_store(Some(at(1_000)));
        assert_eq!(lease.remaining(at(0)), Ok(Duration::from_millis(950)));
        lease.over_at_the_store(Some(at(600)));
        assert_eq!(lease.remaining(at(0)), Ok(Duration::from_millis(550)));
        assert_eq!(lease.end_by(at(550)), Some(End::Lost(Loss::Expired)));
        lease.over_at_the_store(Some(at(1_000)));
        assert_eq!(lease.end_by(at(550)), Some(End::Lost(Loss::Expired)), "it stays lost");
    }

    #[test]
    fn a_lease_is_lost_at_its_deadline_and_a_late_extend_does_not_revive_it() {
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        assert_eq!(lease.end_by(at(949)), None);
        lease.extending(at(900), ttl(1_000));
        lease.extended(at(900), ttl(1_000), at(951));
        assert_eq!(lease.end_by(at(951)), Some(End::Lost(Loss::Expired)));
        assert_eq!(lease.end_by(at(0)), Some(End::Lost(Loss::Expired)));
    }

    #[test]
    fn a_shorter_extend_counts_from_the_moment_it_is_sent() {
        let mut lease = Validity::granted(at(0), ttl(60_000), None);
        lease.extending(at(1_000), ttl(1_000));
        assert_eq!(lease.end_by(at(1_950)), Some(End::Lost(Loss::Expired)));
    }

    #[test]
    fn a_lease_ends_at_its_deadline_or_after_its_longest_hold_whichever_is_sooner() {
        for (max_hold, end, loss) in [(500, 500, Loss::MaxHold), (2_000, 950, Loss::Expired)] {
            let max_hold = Some(Duration::from_millis(max_hold));
            let mut lease = Validity::granted(at(0), ttl(1_000), max_hold);
            assert_eq!(lease.remaining(at(0)), Ok(Duration::from_millis(end)));
            assert_eq!(lease.end_by(at(end - 1)), None);
            assert_eq!(lease.end_by(at(end)), Some(End::Lost(loss)));
        }
    }

    #[test]
    fn a_short_extend_bounds_later_ones_until_it_is_answered() {
        let short = Duration::from_millis(400);
        let full = Duration::from_millis(1_000);
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        lease.extending(at(0), ttl(400));
        lease.extended(at(0), ttl(400), at(1));
        assert_eq!((lease.pace(), lease.remaining(at(1))), (short, Ok(Duration::from_millis(349))));
        lease.extending(at(10), ttl(1_000));
        lease.extended(at(10), ttl(1_000), at(11));
        assert_eq!((lease.pace(), lease.remaining(at(11))), (full, Ok(Duration::from_millis(949))));
        lease.extending(at(20), ttl(400));
        lease.extending(at(30), ttl(1_000));
        lease.extended(at(30), ttl(1_000), at(31));
        assert_eq!(
            (lease.pace(), lease.remaining(at(31))),
            (short, Ok(Duration::from_millis(349)))
        );
    }

    #[test]
    fn renewals_ask_for_the_last_ttl_that_was_answered_and_the_longest_asked_for_stays_known() {
        let mut lease = Validity::granted(at(0), ttl(1_000), None);
        assert_eq!((lease.ttl(), lease.longest()), (ttl(1_000), ttl(1_000)));
        lease.extending(at(10), ttl(5_000));
        assert_eq!((lease.ttl(), lease.longest()), (ttl(1_000), ttl(5_000)));
        lease.extended(at(10), ttl(5_000), at(11));
        lease.extending(at(20), ttl(2_000));
        lease.extended(at(20), ttl(2_000), at(21));
        assert_eq!((lease.ttl(), lease.longest()), (ttl(2_000), ttl(5_000)));
    }

    /// What a store does with the extends it receives: any of them may apply, in any order, at any
    /// time after it was sent, whether or not its answer arrives.
    #[derive(Clone, Debug)]
    struct Extend {
        after: u64,
        ttl: u64,
        answered_after: Option<u64>,
        applied_after: u64,
    }

    fn extends() -> impl Strategy<Value = Vec<Extend>> {
        let extend = (0u64..3_000, 20u64..5_000, proptest::option::of(0u64..2_000), 0u64..9_000);
        let extend = extend.prop_map(|(after, ttl, answered_after, late)| Extend {
            after,
            ttl,
            answered_after,
            // An answered extend was applied before its answer.
            applied_after: answered_after.map_or(late, |answer| late % (answer + 1)),
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
            let mut yes = Vec::new();
            let mut now = 0;
            for extend in &plan {
                now += extend.after;
                if lease.end_by(at(now)).is_some() { break }
                yes.push(now);
                lease.extending(at(now), ttl(extend.ttl));
                writes.push((now + extend.applied_after, extend.ttl));
                let sent = now;
                now += extend.answered_after.unwrap_or(500);
                if extend.answered_after.is_some() {
                    lease.extended(at(sent), ttl(extend.ttl), at(now));
                }
                if lease.end_by(at(now)).is_none() { yes.push(now) }
            }
            while lease.end_by(at(now)).is_none() { yes.push(now); now += 10 }
            writes.sort_unstable();
            for moment in yes {
                let (written, ttl) = *writes.iter().rfind(|(time, _)| *time <= moment).unwrap();
                prop_assert!(moment < written + ttl, "valid at {moment}, expired at {}", written + ttl);
            }
        }

        #[test]
        fn an_ended_lease_stays_ended(times in proptest::collection::vec(0u64..10_000, 1..20)) {
            let mut lease = Validity::granted(at(0), ttl(1_000), None);
            lease.end(End::Given);
            for time in times {
                lease.extending(at(time), ttl(9_000));
                lease.extended(at(time), ttl(9_000), at(time));
                prop_assert_eq!(lease.end_by(at(time)), Some(End::Given));
            }
        }
    }
}
