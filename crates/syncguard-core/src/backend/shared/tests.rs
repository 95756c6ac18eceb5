use std::{num::NonZeroU32, time::Duration};

use proptest::prelude::*;

use super::{Admission, Announcement, SharedHolders, permits_differ};
use crate::{
    ErrorKind, Fence, LockId, LockKey, Timestamp, Ttl,
    backend::{Capabilities, Mode, SharedHolder},
};

const GRACE: i64 = 1_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn ttl(millis: i64) -> Ttl {
    Ttl::new(Duration::from_millis(u64::try_from(millis).unwrap())).unwrap()
}

fn id() -> LockId {
    LockId::mint().unwrap()
}

fn key() -> LockKey {
    LockKey::new("k").unwrap()
}

fn permits(permits: u32) -> Mode {
    Mode::Shared { permits: NonZeroU32::new(permits) }
}

/// Describes a grant of one second that is made at 0.
fn second(lock_id: LockId, fence: u64) -> SharedHolder {
    SharedHolder::new(lock_id, Fence::new(fence).unwrap(), None, ttl(1_000), at(0))
}

/// Describes a key with grants of one second that are made at 0.
fn shared_by<const N: usize>(mode: Mode) -> (SharedHolders, [LockId; N]) {
    let (mut holders, ids) = (SharedHolders::default(), [(); N].map(|()| id()));
    for (fence, lock_id) in (1..).zip(ids) {
        assert_eq!(holders.admit(lock_id, mode, at(0)).unwrap(), Admission::Admitted);
        holders.insert(second(lock_id, fence), mode);
    }
    (holders, ids)
}

fn is_refused(holders: &SharedHolders, mode: Mode, now: Timestamp) -> bool {
    matches!(holders.admit(id(), mode, now).unwrap(), Admission::Refused(_))
}

#[test]
fn a_grant_is_live_until_its_expiry_and_the_grace() {
    let (mut holders, [lock_id]) = shared_by(Mode::SHARED);
    for (now, is_live) in [(0, true), (1_000, true), (1_999, true), (2_000, false)] {
        assert_eq!(holders.is_held(at(now)), is_live, "at {now}");
        assert_eq!(holders.get(lock_id, at(now)).is_some(), is_live, "at {now}");
        assert_eq!(holders.record(key(), id(), at(now)).is_some(), is_live, "at {now}");
        assert_eq!(holders.clone().remove(lock_id, at(now)), is_live, "at {now}");
        assert_eq!(holders.clone().prune(at(now)).is_empty(), is_live, "at {now}");
        let extended = holders.clone().extend(lock_id, ttl(500), at(now));
        assert_eq!(extended, is_live.then(|| at(now + 500)), "at {now}");
    }
    assert_eq!(holders.extend(id(), ttl(500), at(0)), None);
}

#[test]
fn the_grace_is_that_of_the_store() {
    let (holders, _) = shared_by::<1>(permits(1));
    let holders = holders.with_grace(Duration::from_millis(10));
    assert!(holders.is_held(at(1_009)) && !holders.is_held(at(1_010)));
    let holder = holders.holder(Mode::Exclusive, at(0));
    assert_eq!(holder.free_in, Some(Duration::from_millis(1_010)));
}

#[test]
fn an_announcement_stands_until_its_time_without_any_grace() {
    let (mut holders, _) = shared_by::<1>(Mode::SHARED);
    assert!(holders.announce(id(), at(500)));
    assert!(is_refused(&holders, Mode::SHARED, at(499)));
    assert!(!is_refused(&holders, Mode::SHARED, at(500)));
}

#[test]
fn an_announcement_is_replaced_by_one_that_does_not_end_earlier() {
    let (mut holders, _) = shared_by::<1>(Mode::SHARED);
    let (first, equal, later) = (id(), id(), id());
    assert!(holders.announce(first, at(500)));
    assert!(!holders.announce(later, at(499)));
    assert!(!holders.withdraw(later));
    assert!(holders.announce(equal, at(500)) && !holders.withdraw(first));
    assert!(holders.announce(later, at(501)) && !holders.withdraw(equal));
    let announced = Announcement { lock_id: later, until: at(501) };
    assert_eq!(holders.announcement(at(0)), Some(&announced));
    assert!(holders.withdraw(later) && !holders.withdraw(later));
    assert!(!is_refused(&holders, Mode::SHARED, at(0)));
}

#[test]
fn an_id_that_holds_the_key_gets_its_grant_whatever_keeps_others_out() {
    let (mut holders, [one, _]) = shared_by(permits(2));
    holders.announce(id(), at(500));
    let grant = holders.get(one, at(0)).unwrap().grant();
    assert_eq!(holders.admit(one, permits(2), at(0)).unwrap(), Admission::Held(grant));
}

#[test]
fn another_number_of_permits_is_an_error_while_the_key_is_held_and_no_longer() {
    let (mut holders, [one]) = shared_by(permits(2));
    for other in [permits(1), permits(3), Mode::SHARED] {
        let error = holders.admit(id(), other, at(1_999)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.to_string(), permits_differ(other, permits(2)).to_string());
        assert!(!error.may_have_applied());
    }
    assert_eq!(holders.admit(id(), permits(3), at(2_000)).unwrap(), Admission::Admitted);
    assert!(holders.remove(one, at(0)));
    assert_eq!(holders.admit(id(), permits(3), at(0)).unwrap(), Admission::Admitted);
}

#[test]
fn a_grant_of_another_number_of_permits_replaces_those_that_have_expired() {
    let (mut holders, _) = shared_by::<2>(permits(2));
    let next = SharedHolder::new(id(), Fence::new(3).unwrap(), None, ttl(1_000), at(2_000));
    holders.insert(next.clone(), permits(3));
    assert_eq!((holders.mode(), holders.holders()), (permits(3), &[next][..]));
}

#[test]
fn a_new_grant_of_an_id_replaces_its_former_one() {
    let (mut holders, [one, _]) = shared_by(Mode::SHARED);
    holders.insert(second(one, 3), Mode::SHARED);
    let fences: Vec<_> = holders.holders().iter().map(|holder| holder.fence.number()).collect();
    assert_eq!(fences, [2, 3]);
}

#[test]
fn nothing_is_left_after_the_last_holder_and_the_announcement() {
    let (mut holders, [one, two]) = shared_by(Mode::SHARED);
    let writer = id();
    holders.announce(writer, at(500));
    assert!(holders.remove(one, at(0)) && !holders.remove(two, at(2_000)));
    assert_eq!(holders.expires_at(), None);
    assert!(!holders.is_empty(), "the announcement is left");
    assert!(holders.withdraw(writer) && holders.is_empty());
    holders.announce(writer, at(500));
    assert!(holders.prune(at(499)).is_empty() && !holders.is_empty());
    assert!(holders.prune(at(500)).is_empty() && holders.is_empty());
}

#[test]
fn what_was_stored_is_restored_in_the_order_of_the_fences() {
    let stored = [2, 3, 1].map(|fence| second(id(), fence)).to_vec();
    let announcement = Some(Announcement { lock_id: id(), until: at(500) });
    let holders = SharedHolders::restore(permits(4), stored, announcement);
    let fences: Vec<_> = holders.holders().iter().map(|holder| holder.fence.number()).collect();
    assert_eq!((fences, holders.mode()), (vec![1, 2, 3], permits(4)));
    assert_eq!(holders.announcement(at(0)), announcement.as_ref());
    assert_eq!(SharedHolders::restore(Mode::Exclusive, Vec::new(), None), SharedHolders::default());
}

/// One request to a key, and how much later than the one before it arrives.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire { who: usize, mode: Mode, ttl: i64 },
    Extend { who: usize, ttl: i64 },
    Release { who: usize },
    Announce { who: usize, millis: i64 },
    Withdraw { who: usize },
    Prune,
    Restore,
}

const CLIENTS: usize = 5;

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let mode = (0u32..4).prop_map(permits);
    let step = prop_oneof![
        5 => (0..CLIENTS, mode, 1i64..3_000)
            .prop_map(|(who, mode, ttl)| Step::Acquire { who, mode, ttl }),
        2 => (0..CLIENTS, 1i64..3_000).prop_map(|(who, ttl)| Step::Extend { who, ttl }),
        2 => (0..CLIENTS).prop_map(|who| Step::Release { who }),
        2 => (0..CLIENTS, 0i64..3_000).prop_map(|(who, millis)| Step::Announce { who, millis }),
        1 => (0..CLIENTS).prop_map(|who| Step::Withdraw { who }),
        1 => Just(Step::Prune),
        1 => Just(Step::Restore),
    ];
    proptest::collection::vec((0i64..700, step), 0..40)
}

/// The rules, restated: every grant that was ever made, with the time at which it ends, and the
/// announcement. Nothing is removed; what is live is decided when it matters.
#[derive(Default)]
struct Restated {
    grants: Vec<Made>,
    /// The client and the end.
    announcement: Option<(usize, i64)>,
}

#[derive(Clone, Copy)]
struct Made {
    who: usize,
    mode: Mode,
    fence: u64,
    at: i64,
    expires_at: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Held(u64),
    Admitted,
    Refused,
    Error,
}

impl Restated {
    fn live(&self, now: i64) -> Vec<Made> {
        let live = |made: &&Made| now < made.expires_at + GRACE;
        self.grants.iter().filter(live).copied().collect()
    }

    fn of(&mut self, who: usize, now: i64) -> Option<&mut Made> {
        self.grants.iter_mut().find(|made| made.who == who && now < made.expires_at + GRACE)
    }

    fn decide(&self, who: usize, mode: Mode, now: i64) -> Decision {
        let live = self.live(now);
        if let Some(own) = live.iter().find(|made| made.who == who) {
            return Decision::Held(own.fence);
        }
        if live.iter().any(|made| made.mode != mode) {
            return Decision::Error;
        }
        let is_announced = self.announcement.is_some_and(|(_, until)| now < until);
        let is_full =
            mode.permits().is_some_and(|permits| live.len() as u64 >= permits.get().into());
        if is_announced || is_full { Decision::Refused } else { Decision::Admitted }
    }

    /// Returns when a request could be granted at the earliest, if nothing but time passes.
    fn free_at(&self, mode: Mode, now: i64) -> i64 {
        let is_free = |time: &i64| match mode {
            Mode::Exclusive => self.live(*time).is_empty(),
            shared => self.decide(CLIENTS, shared, *time) == Decision::Admitted,
        };
        let ends = self.grants.iter().map(|made| made.expires_at + GRACE);
        let ends = ends.chain(self.announcement.map(|(_, until)| until));
        let times = ends.filter(|end| *end > now).chain([now]);
        times.filter(is_free).min().expect("everything ends")
    }
}

proptest! {
    #[test]
    fn shared_holders_follow_the_rules(steps in steps()) {
        let ids = [(); CLIENTS + 1].map(|()| id());
        let (mut holders, mut restated) = (SharedHolders::default(), Restated::default());
        let (mut now, mut fence) = (0, 0);
        for (after, step) in steps {
            now += after;
            match step {
                Step::Acquire { who, mode, ttl: millis } => {
                    let decided = match holders.admit(ids[who], mode, at(now)) {
                        Ok(Admission::Held(grant)) => Decision::Held(grant.fence.number()),
                        Ok(Admission::Admitted) => Decision::Admitted,
                        Ok(Admission::Refused(holder)) => {
                            prop_assert_eq!(holder, holders.holder(mode, at(now)));
                            Decision::Refused
                        }
                        Err(_) => Decision::Error,
                    };
                    prop_assert_eq!(&decided, &restated.decide(who, mode, now));
                    if decided == Decision::Admitted {
                        fence += 1;
                        let number = Fence::new(fence).unwrap();
                        let made = SharedHolder::new(ids[who], number, None, ttl(millis), at(now));
                        holders.insert(made, mode);
                        let expires_at = now + millis;
                        restated.grants.push(Made { who, mode, fence, at: now, expires_at });
                    }
                }
                Step::Extend { who, ttl: millis } => {
                    let extended = restated.of(who, now).map(|made| made.expires_at = now + millis);
                    let expires_at = extended.map(|()| at(now + millis));
                    prop_assert_eq!(holders.extend(ids[who], ttl(millis), at(now)), expires_at);
                }
                Step::Release { who } => {
                    let is_held = restated.of(who, now).is_some();
                    prop_assert_eq!(holders.remove(ids[who], at(now)), is_held);
                    restated.grants.retain(|made| made.who != who);
                }
                Step::Announce { who, millis } => {
                    let until = now + millis;
                    let replaces = restated.announcement.is_none_or(|(_, other)| other <= until);
                    prop_assert_eq!(holders.announce(ids[who], at(until)), replaces);
                    if replaces {
                        restated.announcement = Some((who, until));
                    }
                }
                Step::Withdraw { who } => {
                    let is_announced = restated.announcement.is_some_and(|(by, _)| by == who);
                    prop_assert_eq!(holders.withdraw(ids[who]), is_announced);
                    restated.announcement = restated.announcement.filter(|_| !is_announced);
                }
                Step::Prune => {
                    let pruned = holders.prune(at(now));
                    let grace = Capabilities::GRACE;
                    prop_assert!(pruned.iter().all(|p| !p.expires_at.is_live(at(now), grace)));
                    prop_assert_eq!(holders.holders().len(), restated.live(now).len());
                    restated.announcement = restated.announcement.filter(|(_, until)| now < *until);
                }
                Step::Restore => {
                    let stored = holders.holders().iter().rev().cloned().collect();
                    let announcement = holders.announcement.as_ref().copied();
                    holders = SharedHolders::restore(holders.mode(), stored, announcement);
                }
            }

            let live = restated.live(now);
            prop_assert_eq!(holders.is_held(at(now)), !live.is_empty());
            let record = holders.record(key(), ids[CLIENTS], at(now));
            prop_assert_eq!(record.is_some(), !live.is_empty());
            if let Some(record) = record {
                let shown = record.holders.iter().map(|holder| {
                    let times = (holder.acquired_at, holder.expires_at);
                    (holder.lock_id, holder.fence.number(), times)
                });
                let made = live.iter().map(|m| (ids[m.who], m.fence, (at(m.at), at(m.expires_at))));
                prop_assert_eq!(shown.collect::<Vec<_>>(), made.collect::<Vec<_>>());
                prop_assert_eq!((record.lock_id, record.mode), (ids[CLIENTS], live[0].mode));
                prop_assert_eq!(record.fence.number(), live.iter().map(|m| m.fence).max().unwrap());
                let latest = live.iter().map(|m| m.expires_at).max().unwrap();
                prop_assert_eq!(record.expires_at, at(latest));
                prop_assert_eq!(record.acquired_at, at(live.iter().map(|m| m.at).min().unwrap()));
                prop_assert!(holders.expires_at() >= Some(at(latest)));
            }
            let modes = live.first().map_or(permits(2), |made| made.mode);
            for mode in [Mode::Exclusive, modes] {
                let holder = holders.holder(mode, at(now));
                let free_in = holder.free_in.map_or(0, |free_in| free_in.as_millis());
                let free_at = restated.free_at(mode, now);
                prop_assert_eq!(now + i64::try_from(free_in).unwrap(), free_at, "{}", mode);
                prop_assert_eq!(holder.count, Some(live.len()));
                let highest = live.iter().map(|made| made.fence).max();
                prop_assert_eq!(holder.fence.map(Fence::number), highest);
            }
        }
    }
}
