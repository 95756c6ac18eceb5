use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::{Counters, RetireRequest};
use crate::{Fence, Timestamp};

const DAY_MS: i64 = 24 * 3_600_000;
const START_MS: i64 = 1_790_000_000_000;

/// What happens to a store.
#[derive(Clone, Debug)]
enum Step {
    /// Keys are granted, each so many times.
    Grant { key: u8, times: u8 },
    /// Counters are retired that are unused for so many days.
    Retire { days: u8 },
    /// The clock goes on, or is set forward.
    Forward { millis: i64 },
    /// The clock is set back, as far below what it has read as the rule allows, in thousandths.
    Back { share: i64 },
    /// The store is stopped and started: it keeps its counters, and nothing else.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let forward = prop_oneof![0..10_i64, 0..2 * DAY_MS, 0..400 * DAY_MS];
    prop_oneof![
        4 => (0..4_u8, 1..8_u8).prop_map(|(key, times)| Step::Grant { key, times }),
        3 => (1..4_u8).prop_map(|days| Step::Retire { days }),
        3 => forward.prop_map(|millis| Step::Forward { millis }),
        2 => (0..=1_000_i64).prop_map(|share| Step::Back { share }),
        1 => Just(Step::Restart),
    ]
}

/// A store that does what the rules demand, and the highest fence that it has granted for each key.
struct Model {
    counters: HashMap<u8, Fence>,
    granted: HashMap<u8, Fence>,
    now: i64,
    latest: i64,
}

impl Model {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.now)
    }

    fn grant(&mut self, key: u8) -> Result<(), TestCaseError> {
        let last = self.counters.get(&key).copied();
        let fence = Counters::Seeded.next(last, self.now()).expect("far below the limit");
        let before = self.granted.insert(key, fence);
        prop_assert!(before.is_none_or(|before| before < fence), "{fence} after {before:?}");
        self.counters.insert(key, fence);
        Ok(())
    }

    fn retire(&mut self, days: u8) {
        let unused_for = Duration::from_millis(DAY_MS.unsigned_abs()) * u32::from(days);
        let (request, now) = (RetireRequest::new(unused_for).expect("is long enough"), self.now());
        self.counters.retain(|_, counter| !request.is_due(*counter, now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn no_fence_repeats_or_falls_over_any_schedule(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model {
            counters: HashMap::new(),
            granted: HashMap::new(),
            now: START_MS,
            latest: START_MS,
        };
        for step in steps {
            match step {
                Step::Grant { key, times } => {
                    for _ in 0..times {
                        model.grant(key)?;
                    }
                }
                Step::Retire { days } => model.retire(days),
                Step::Forward { millis } => model.now += millis,
                // Never a whole day below what it has read: the shortest time of a retirement.
                Step::Back { share } => model.now = model.latest - (DAY_MS - 1) * share / 1_000,
                Step::Restart => {}
            }
            model.latest = model.latest.max(model.now);
        }
    }

    #[test]
    fn a_counter_is_due_exactly_when_it_is_seeded_and_old_enough(
        counter in 0..2 * START_MS,
        age in -DAY_MS..10 * DAY_MS,
        days in 1..5_i64,
    ) {
        let unused_for = Duration::from_millis((days * DAY_MS).unsigned_abs());
        let request = RetireRequest::new(unused_for).expect("is long enough");
        let fence = Fence::new(counter.unsigned_abs()).expect("fits");
        let is_seeded = counter.unsigned_abs() >= RetireRequest::MIN_FENCE;
        let now = Timestamp::from_unix_millis(counter + age);
        prop_assert_eq!(request.is_due(fence, now), is_seeded && age >= days * DAY_MS);
    }
}

#[test]
fn at_the_limit_there_is_no_next_fence_and_a_clock_beyond_it_does_not_pass_it() {
    let far = Timestamp::from_unix_millis(i64::MAX);
    for counters in [Counters::FromOne, Counters::Seeded] {
        assert_eq!(counters.next(Some(Fence::LIMIT), far), None);
    }
    let beyond = Timestamp::from_unix_millis(950_000_000_000_000);
    assert_eq!(Counters::Seeded.next(None, beyond), Some(Fence::LIMIT));
    let before = Timestamp::from_unix_millis(-1);
    assert_eq!(Counters::Seeded.next(None, before), Some(Fence::new(1).unwrap()));
}

#[test]
fn a_time_below_a_day_is_refused_and_the_longest_one_is_a_century() {
    let shortest = RetireRequest::MIN_UNUSED_FOR;
    assert!(RetireRequest::new(shortest).is_ok());
    let refused = RetireRequest::new(shortest - Duration::from_nanos(1)).unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::InvalidArgument);
    assert!(!refused.may_have_applied());
    let longest = RetireRequest::new(Duration::MAX).unwrap();
    let now = Timestamp::from_unix_millis(START_MS);
    assert!(!longest.is_due(Fence::new(RetireRequest::MIN_FENCE).unwrap(), now));
}
