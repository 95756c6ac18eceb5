use std::{collections::BTreeMap, fmt};

use syncguard_core::LockKey;

use super::Entry;

/// A violation of what a lock guarantees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The second hold began while the first had not ended.
    Overlap(Entry, Entry),
    /// The two holds had the same fence.
    RepeatedFence(Entry, Entry),
    /// The second hold began after the first, with a lower fence.
    LowerFence(Entry, Entry),
    /// The hold never ended: its process neither left nor died.
    NeverLeft(Entry),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap(one, other) => write!(f, "overlap of {one} and {other}"),
            Self::RepeatedFence(one, other) => write!(f, "one fence for {one} and {other}"),
            Self::LowerFence(one, other) => write!(f, "after {one}, a lower fence for {other}"),
            Self::NeverLeft(entry) => write!(f, "{entry} never left"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, key, fence, entered, .. } = self;
        let key = key.as_str();
        write!(f, "{process} in {key:?} under {fence} from {:?}", entered.since_boot())?;
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
    let open = entries.iter().filter(|entry| entry.left().is_none());
    found.extend(open.cloned().map(Flaw::NeverLeft));
    found
}

/// Compares each hold with the earlier one that ended last. A hold without an end counts as
/// endless.
fn overlaps(entries: &[&Entry]) -> Vec<Flaw> {
    let mut found = Vec::new();
    let mut last_to_end: Option<&Entry> = None;
    for &entry in entries {
        if let Some(before) = last_to_end
            && before.left().is_none_or(|left| entry.entered < left)
        {
            found.push(Flaw::Overlap(before.clone(), entry.clone()));
        }
        let end = |entry: &Entry| (entry.left().is_none(), entry.left());
        if last_to_end.is_none_or(|before| end(before) < end(entry)) {
            last_to_end = Some(entry);
        }
    }
    found
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

/// Compares each fence with the highest one before it.
fn lower_fences(entries: &[&Entry]) -> Vec<Flaw> {
    let mut found = Vec::new();
    let mut highest: Option<&Entry> = None;
    for &entry in entries {
        match highest.filter(|highest| entry.fence <= highest.fence) {
            Some(highest) if entry.fence < highest.fence => {
                found.push(Flaw::LowerFence(highest.clone(), entry.clone()));
            }
            Some(_) => {}
            None => highest = Some(entry),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::{BootInstant, Fence, LockKey};

    use super::{Flaw, flaws};
    use crate::history::{End, Entry, Incarnation};

    fn at(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn hold(process: u32, key: &str, fence: u64, entered: u64, end: End) -> Entry {
        let (key, fence) = (LockKey::new(key).unwrap(), Fence::new(fence).unwrap());
        Entry { process: Incarnation(process), key, fence, entered: at(entered), end }
    }

    fn left(process: u32, fence: u64, entered: u64, left: u64) -> Entry {
        hold(process, "k", fence, entered, End::Left(at(left)))
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
    fn a_flaw_names_the_processes_the_key_and_the_fences() {
        let found = flaws(&[left(1, 1, 10, 20), left(2, 2, 19, 30)]);
        let text = found[0].to_string();
        for part in ["process 1", "process 2", "\"k\"", "000000000000002", "19ms", "30ms"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
