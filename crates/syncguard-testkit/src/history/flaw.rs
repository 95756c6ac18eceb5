use std::{collections::BTreeMap, fmt};

use syncguard_core::{Fence, LockKey};

use super::{Entry, Hole};

/// A violation of what a lock guarantees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The second hold began while the first had not ended, and the two may not share the key.
    Overlap(Entry, Entry),
    /// More processes held the key at once than their mode has permits. The last hold began last.
    TooMany(Vec<Entry>),
    /// The two holds had the same fence.
    RepeatedFence(Entry, Entry),
    /// The second grant was made after the first, with a lower fence.
    LowerFence(Entry, Entry),
    /// The store reported that the lock is not held, while its lease was valid.
    NotHeld(Entry),
    /// The hold never ended: its process neither left nor died.
    NeverLeft(Entry),
    /// The key was free for too long, although a client waited for it.
    Hole(Hole),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap(one, other) => write!(f, "overlap of {one} and {other}"),
            Self::TooMany(entries) => {
                f.write_str("too many at once:")?;
                entries.iter().try_for_each(|entry| write!(f, " {entry};"))
            }
            Self::RepeatedFence(one, other) => write!(f, "one fence for {one} and {other}"),
            Self::LowerFence(one, other) => write!(f, "after {one}, a lower fence for {other}"),
            Self::NotHeld(entry) => write!(f, "{entry} was not held within its lease"),
            Self::NeverLeft(entry) => write!(f, "{entry} never left"),
            Self::Hole(hole) => hole.fmt(f),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, key, fence, mode, entered, .. } = self;
        let (key, from) = (key.as_str(), entered.since_boot());
        write!(f, "{process} in {key:?} in {mode} under {fence} from {from:?}")?;
        match self.left() {
            Some(left) => write!(f, " to {:?}", left.since_boot()),
            None => f.write_str(" on"),
        }
    }
}

/// Finds the violations among holds that are sorted by their beginning.
pub fn flaws(entries: &[Entry]) -> Vec<Flaw> {
    let mut keys: BTreeMap<&LockKey, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        keys.entry(&entry.key).or_default().push(entry);
    }
    let mut found = Vec::new();
    for entries in keys.values() {
        found.extend(overlaps(entries));
        found.extend(repeated_fences(entries));
        found.extend(lower_fences(entries));
    }
    let not_held = entries.iter().filter(|entry| entry.not_held.is_some());
    found.extend(not_held.cloned().map(Flaw::NotHeld));
    let open = entries.iter().filter(|entry| entry.left().is_none());
    found.extend(open.cloned().map(Flaw::NeverLeft));
    found
}

/// Compares each hold with those that had not ended when it began. A hold without an end counts as
/// endless.
fn overlaps(entries: &[&Entry]) -> Vec<Flaw> {
    let mut found = Vec::new();
    let mut current: Vec<&Entry> = Vec::new();
    for &entry in entries {
        current.retain(|before| before.left().is_none_or(|left| entry.entered < left));
        let conflicting = current.iter().filter(|before| !may_share(before, entry));
        found.extend(conflicting.map(|before| Flaw::Overlap((*before).clone(), entry.clone())));
        current.push(entry);
        let sharing = || current.iter().filter(|holder| may_share(holder, entry));
        if let Some(permits) = entry.mode.permits()
            && sharing().count() > permits.get() as usize
        {
            found.push(Flaw::TooMany(sharing().copied().cloned().collect()));
        }
    }
    found
}

/// Returns whether the two may hold one key at the same time.
fn may_share(one: &Entry, other: &Entry) -> bool {
    one.mode.is_shared() && one.mode == other.mode
}

fn repeated_fences(entries: &[&Entry]) -> Vec<Flaw> {
    let mut seen = BTreeMap::new();
    let mut found = Vec::new();
    for &entry in entries {
        if let Some(before) = seen.insert(entry.fence, entry) {
            found.push(Flaw::RepeatedFence(before.clone(), entry.clone()));
        }
    }
    found
}

/// Compares each fence with the highest one of the grants that were certainly made before.
///
/// Of two that may not share the key, the one that is seen to hold it first had its grant first. Two
/// that may share it can be granted in one order and begin in the other, unless the later one began
/// to wait only after the earlier one held. So before a hold came all that began before its request,
/// and of those that began since, the ones with which it may not share the key.
fn lower_fences(entries: &[&Entry]) -> Vec<Flaw> {
    let mut found = Vec::new();
    let mut highest = Highest::default();
    // The highest fence of the holds up to each one.
    let mut highest_up_to: Vec<Rank> = Vec::with_capacity(entries.len());
    for (index, &entry) in entries.iter().enumerate() {
        let requested = entries[..index].partition_point(|before| before.entered < entry.requested);
        let before_request = requested.checked_sub(1).map(|last| highest_up_to[last]);
        let before = before_request.max(highest.not_sharing_with(entry, entries));
        if let Some((_, before)) = before.filter(|(fence, _)| entry.fence < *fence) {
            found.push(Flaw::LowerFence(entries[before].clone(), entry.clone()));
        }
        highest.add((entry.fence, index), entries);
        highest_up_to.extend(highest.of_all);
    }
    found
}

/// The fence of a hold, and the position of the hold, which decides between equal fences.
type Rank = (Fence, usize);

/// The highest fences of some holds.
#[derive(Default)]
struct Highest {
    of_all: Option<Rank>,
    /// That of the holds in another mode than the hold of `of_all`.
    of_other_modes: Option<Rank>,
}

impl Highest {
    fn add(&mut self, rank: Rank, entries: &[&Entry]) {
        let is_other = |than: Rank| entries[than.1].mode != entries[rank.1].mode;
        let is_other = self.of_all.is_some_and(is_other);
        if self.of_all < Some(rank) {
            if is_other {
                self.of_other_modes = self.of_all;
            }
            self.of_all = Some(rank);
        } else if is_other {
            self.of_other_modes = self.of_other_modes.max(Some(rank));
        }
    }

    /// Returns the highest fence of the holds that may not share the key with `entry`.
    fn not_sharing_with(&self, entry: &Entry, entries: &[&Entry]) -> Option<Rank> {
        let may_share = self.of_all.is_some_and(|(_, hold)| may_share(entries[hold], entry));
        if may_share { self.of_other_modes } else { self.of_all }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use proptest::prelude::*;
    use syncguard_core::{BootInstant, Fence, LockKey, backend::Mode};

    use super::{Flaw, flaws, lower_fences, may_share};
    use crate::history::{End, Entry, Incarnation};

    fn at(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn hold(process: u32, key: &str, fence: u64, entered: u64, end: End) -> Entry {
        let (key, fence) = (LockKey::new(key).unwrap(), Fence::new(fence).unwrap());
        let (process, mode, entered) = (Incarnation(process), Mode::Exclusive, at(entered));
        let (requested, released, not_held) = (entered, None, None);
        Entry { process, key, fence, mode, requested, entered, end, released, not_held }
    }

    fn left(process: u32, fence: u64, entered: u64, left: u64) -> Entry {
        hold(process, "k", fence, entered, End::Left(at(left)))
    }

    fn shared(permits: u32, entry: Entry) -> Entry {
        Entry { mode: Mode::Shared { permits: NonZeroU32::new(permits) }, ..entry }
    }

    fn reader(process: u32, fence: u64, entered: u64, until: u64) -> Entry {
        shared(0, left(process, fence, entered, until))
    }

    #[test]
    fn consecutive_holds_have_no_flaw() {
        let died = hold(3, "k", 5, 45, End::Died(at(50)));
        let good = [left(1, 1, 10, 20), left(2, 2, 20, 30), left(1, 4, 31, 40), died];
        assert_eq!(flaws(&good), []);
        assert_eq!(flaws(&[]), []);
    }

    #[test]
    fn holds_of_different_keys_do_not_overlap() {
        let other = hold(2, "other", 1, 15, End::Left(at(25)));
        assert_eq!(flaws(&[left(1, 1, 10, 20), other]), []);
    }

    #[test]
    fn a_hold_that_begins_before_the_previous_one_ends_overlaps_with_it() {
        let (one, other) = (left(1, 1, 10, 20), left(2, 2, 19, 30));
        assert_eq!(flaws(&[one.clone(), other.clone()]), [Flaw::Overlap(one, other)]);
    }

    #[test]
    fn a_hold_is_compared_with_all_earlier_ones_not_only_with_the_last() {
        let bad = [left(1, 1, 10, 100), left(2, 2, 20, 30), left(3, 3, 40, 50)];
        let [one, two, three] = bad.clone();
        assert_eq!(flaws(&bad), [Flaw::Overlap(one.clone(), two), Flaw::Overlap(one, three)]);
    }

    #[test]
    fn a_hold_that_begins_before_the_previous_holder_died_overlaps_with_it() {
        let (dead, next) = (hold(1, "k", 1, 10, End::Died(at(20))), left(2, 2, 15, 30));
        assert_eq!(flaws(&[dead.clone(), next.clone()]), [Flaw::Overlap(dead, next)]);
    }

    #[test]
    fn a_hold_without_an_end_overlaps_with_all_later_ones() {
        let (open, next) = (hold(1, "k", 1, 10, End::Open), left(2, 2, 90, 95));
        let expected = [Flaw::Overlap(open.clone(), next.clone()), Flaw::NeverLeft(open.clone())];
        assert_eq!(flaws(&[open, next]), expected);
    }

    #[test]
    fn a_repeated_fence_is_found_however_many_holds_are_in_between() {
        let bad = [left(1, 1, 10, 20), left(2, 2, 30, 40), left(3, 1, 50, 60)];
        let [one, two, three] = bad.clone();
        let expected = [Flaw::RepeatedFence(one, three.clone()), Flaw::LowerFence(two, three)];
        assert_eq!(flaws(&bad), expected);
        let twins = [left(1, 7, 10, 20), left(1, 7, 30, 40)];
        let [one, two] = twins.clone();
        assert_eq!(flaws(&twins), [Flaw::RepeatedFence(one, two)]);
    }

    #[test]
    fn a_fence_lower_than_an_earlier_one_is_found() {
        let bad = [left(1, 5, 10, 20), left(2, 4, 30, 40), left(3, 6, 50, 60)];
        let [one, two, _] = bad.clone();
        assert_eq!(flaws(&bad), [Flaw::LowerFence(one, two)]);
    }

    #[test]
    fn a_lock_that_is_not_held_within_its_lease_is_found() {
        let denied = Entry { not_held: Some(at(22)), ..left(1, 1, 10, 20) };
        let found = flaws(&[denied.clone(), left(2, 2, 30, 40)]);
        assert_eq!(found, [Flaw::NotHeld(denied)]);
        assert!(found[0].to_string().ends_with("was not held within its lease"), "{}", found[0]);
    }

    #[test]
    fn a_flaw_names_the_processes_the_key_and_the_fences() {
        let found = flaws(&[left(1, 1, 10, 20), left(2, 2, 19, 30)]);
        let text = found[0].to_string();
        for part in ["process 1", "process 2", "\"k\"", "000000000000002", "19ms", "30ms"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn readers_may_overlap_each_other_but_no_writer() {
        let readers = [reader(1, 1, 10, 40), reader(2, 2, 20, 30), reader(3, 3, 29, 50)];
        assert_eq!(flaws(&readers), []);
        let [one, _, three] = readers.clone();
        let writer = left(4, 4, 35, 60);
        let late = reader(5, 5, 55, 70);
        let [first, second, third] =
            [(one, writer.clone()), (three, writer.clone()), (writer, late)];
        let found = flaws(&[readers.as_slice(), &[first.1.clone(), third.1.clone()]].concat());
        let expected = [first, second, third].map(|(one, other)| Flaw::Overlap(one, other));
        assert_eq!(found, expected);
    }

    #[test]
    fn holders_with_different_numbers_of_permits_may_not_overlap() {
        let (two, three) = (shared(2, left(1, 1, 10, 30)), shared(3, left(2, 2, 20, 40)));
        let expected = [Flaw::Overlap(two.clone(), three.clone())];
        assert_eq!(flaws(&[two, three]), expected);
    }

    #[test]
    fn more_holders_at_once_than_permits_are_found() {
        let holders: Vec<Entry> =
            (0..4).map(|n| shared(2, left(n, 1 + u64::from(n), 10 * u64::from(n), 25))).collect();
        assert_eq!(flaws(&holders[..2]), []);
        // The last one begins when the others have left.
        assert_eq!(flaws(&holders), [Flaw::TooMany(holders[..3].to_vec())]);
    }

    #[test]
    fn the_fences_of_readers_are_in_the_order_of_their_grants_not_of_their_holds() {
        let (first, second) = (reader(1, 2, 10, 40), reader(2, 1, 20, 30));
        let waited = Entry { requested: at(5), ..second.clone() };
        assert_eq!(flaws(&[first.clone(), waited]), []);
        let expected = [Flaw::LowerFence(first.clone(), second.clone())];
        assert_eq!(flaws(&[first.clone(), second]), expected);
        // A writer is after all readers before it.
        let writer = Entry { requested: at(1), ..left(3, 1, 50, 60) };
        let found = flaws(&[first.clone(), writer.clone()]);
        assert_eq!(found, [Flaw::LowerFence(first, writer)]);
    }

    /// The definition of a lower fence: compares each hold with every earlier one.
    fn lower_fences_by_definition(entries: &[&Entry]) -> Vec<Flaw> {
        let precedes = |before: &Entry, entry: &Entry| {
            !may_share(before, entry) || before.entered < entry.requested
        };
        let mut found = Vec::new();
        for (index, &entry) in entries.iter().enumerate() {
            let before = entries[..index].iter().filter(|before| precedes(before, entry));
            let highest = before.max_by_key(|before| before.fence);
            if let Some(highest) = highest.filter(|highest| entry.fence < highest.fence) {
                found.push(Flaw::LowerFence((*highest).clone(), entry.clone()));
            }
        }
        found
    }

    /// Holds of one key, in the order of their beginning, in up to four modes. Some have the same
    /// fence, or begin at the same time.
    fn holds() -> impl Strategy<Value = Vec<Entry>> {
        let hold = (0u64..30, 0u64..8, 1u64..20, 0u32..4);
        let hold = hold.prop_map(|(entered, waited, fence, mode)| {
            let entry = left(1, fence, entered + waited, entered + waited);
            let entry = Entry { requested: at(entered), ..entry };
            if mode == 0 { entry } else { shared(mode - 1, entry) }
        });
        proptest::collection::vec(hold, 0..40).prop_map(|holds| {
            let numbered = (0..).zip(holds);
            let numbered =
                numbered.map(|(number, hold)| Entry { process: Incarnation(number), ..hold });
            let mut holds: Vec<_> = numbered.collect();
            holds.sort_by_key(|hold| hold.entered);
            holds
        })
    }

    proptest! {
        #[test]
        fn lower_fences_are_those_of_the_definition(holds in holds()) {
            let holds: Vec<_> = holds.iter().collect();
            prop_assert_eq!(lower_fences(&holds), lower_fences_by_definition(&holds));
        }
    }
}
