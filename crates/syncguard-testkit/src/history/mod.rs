//! Which process held which lock and when, and a check of that history.
//!
//! The processes of a test append [`Record`]s to one file, through a [`Journal`]. All of them read
//! the same clock, [`BootClock`](syncguard_core::BootClock), which the kernel keeps for the whole
//! host, so their times can be compared. Afterwards the file is read as a [`History`], and
//! [`History::flaws`] returns the violations of what a lock guarantees.

mod flaw;
mod journal;
mod record;

use std::collections::BTreeMap;

pub use flaw::{Flaw, flaws};
pub use journal::{Journal, JournalError};
pub use record::{Event, Incarnation, Record};
use syncguard_core::{BootInstant, Fence, LockKey, backend::Mode};

/// One hold of one lock by one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The process.
    pub process: Incarnation,
    /// The key of the lock.
    pub key: LockKey,
    /// The fence of the grant.
    pub fence: Fence,
    /// The mode of the grant.
    pub mode: Mode,
    /// When the process began to wait for the lock.
    pub requested: BootInstant,
    /// When the process knew that it held the lock.
    pub entered: BootInstant,
    /// How, and when, the hold ended.
    pub end: End,
    /// When the store reported the lock as not held, although the lease was valid.
    pub not_held: Option<BootInstant>,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process left. This is the last time at which it knew that it held the lock.
    Left(BootInstant),
    /// The process died. This is the time at which its death was certain, or the end of its lease
    /// if that is earlier.
    Died(BootInstant),
    /// The records contain no end.
    Open,
}

impl Entry {
    /// Returns when the hold ended, `None` if it did not end.
    pub fn left(&self) -> Option<BootInstant> {
        match self.end {
            End::Left(at) | End::Died(at) => Some(at),
            End::Open => None,
        }
    }
}

/// All holds, sorted by their beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// Derives the holds from the records of the processes, which may be in any order.
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let mut ends = BTreeMap::new();
        let (mut denials, mut deaths) = (BTreeMap::new(), BTreeMap::new());
        let (mut entries, mut leases) = (Vec::new(), Vec::new());
        for Record { process, at, event } in records {
            match event {
                Event::Entered { key, fence, mode, requested, until } => {
                    let (entered, end, not_held) = (at, End::Open, None);
                    let entry =
                        Entry { process, key, fence, mode, requested, entered, end, not_held };
                    entries.push(entry);
                    leases.push(until);
                }
                Event::Left { key, fence } => {
                    ends.insert((process, key, fence), at);
                }
                Event::NotHeld { key, fence } => {
                    denials.insert((process, key, fence), at);
                }
                Event::Died => {
                    deaths.insert(process, at);
                }
            }
        }
        for (entry, until) in entries.iter_mut().zip(leases) {
            let hold = (entry.process, entry.key.clone(), entry.fence);
            entry.not_held = denials.get(&hold).copied();
            let left = ends.get(&hold).copied();
            let died = || deaths.get(&entry.process).map(|at| End::Died(until.min(*at)));
            entry.end = left.map(End::Left).or_else(died).unwrap_or(End::Open);
        }
        entries.sort_by_key(|entry| entry.entered);
        Self { entries }
    }

    /// Returns the holds, sorted by their beginning.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns how many holds were ended by the death of their process.
    pub fn deaths_inside(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.end, End::Died(_))).count()
    }

    /// Returns how many holds began while another one of the same key had not ended.
    pub fn shared_at_once(&self) -> usize {
        let mut ends: BTreeMap<&LockKey, Option<BootInstant>> = BTreeMap::new();
        let mut count = 0;
        for entry in &self.entries {
            let end = ends.entry(&entry.key).or_insert(Some(entry.entered));
            count += usize::from(end.is_none_or(|end| entry.entered < end));
            *end = (*end).zip(entry.left()).map(|(end, left)| end.max(left));
        }
        count
    }

    /// Returns the violations of what a lock guarantees.
    pub fn flaws(&self) -> Vec<Flaw> {
        flaws(&self.entries)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The duration of a lease, in milliseconds.
    const LEASE: u64 = 50;

    fn boot(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn record(process: u32, at: u64, event: Event) -> Record {
        Record { process: Incarnation(process), at: boot(at), event }
    }

    fn entered(process: u32, at: u64, fence: u64) -> Record {
        let (key, fence) = (LockKey::new("k").unwrap(), Fence::new(fence).unwrap());
        let (mode, requested, until) = (Mode::Exclusive, boot(at), boot(at + LEASE));
        record(process, at, Event::Entered { key, fence, mode, requested, until })
    }

    fn left(process: u32, at: u64, fence: u64) -> Record {
        let (key, fence) = (LockKey::new("k").unwrap(), Fence::new(fence).unwrap());
        record(process, at, Event::Left { key, fence })
    }

    fn not_held(process: u32, at: u64, fence: u64) -> Record {
        let (key, fence) = (LockKey::new("k").unwrap(), Fence::new(fence).unwrap());
        record(process, at, Event::NotHeld { key, fence })
    }

    fn times(history: &History) -> Vec<(u128, Option<u128>)> {
        let millis = |at: BootInstant| at.since_boot().as_millis();
        history.entries().iter().map(|e| (millis(e.entered), e.left().map(millis))).collect()
    }

    #[test]
    fn a_hold_lasts_from_entering_to_leaving_whatever_the_order_of_the_records() {
        let records = [left(2, 40, 2), entered(2, 30, 2), entered(1, 10, 1), left(1, 20, 1)];
        assert_eq!(times(&History::new(records)), [(10, Some(20)), (30, Some(40))]);
    }

    #[test]
    fn a_hold_ends_with_the_death_of_its_process() {
        let records =
            [entered(1, 10, 1), left(1, 12, 1), entered(1, 20, 2), record(1, 25, Event::Died)];
        let history = History::new(records);
        assert_eq!(times(&history), [(10, Some(12)), (20, Some(25))]);
        assert_eq!(history.deaths_inside(), 1);
    }

    #[test]
    fn a_hold_ends_with_its_lease_if_the_process_died_later() {
        let history = History::new([entered(1, 10, 1), record(1, 200, Event::Died)]);
        assert_eq!(times(&history), [(10, Some(10 + u128::from(LEASE)))]);
    }

    #[test]
    fn a_report_that_a_lock_is_not_held_concerns_the_hold_under_its_fence() {
        let records = [
            entered(1, 10, 1),
            left(1, 12, 1),
            not_held(1, 13, 1),
            entered(1, 20, 2),
            left(1, 22, 2),
        ];
        let history = History::new(records);
        let reports: Vec<_> = history.entries().iter().map(|entry| entry.not_held).collect();
        assert_eq!(reports, [Some(boot(13)), None]);
        let [Flaw::NotHeld(hold)] = &history.flaws()[..] else { panic!("{:?}", history.flaws()) };
        assert_eq!(hold, &history.entries()[0]);
    }

    #[test]
    fn a_hold_without_an_end_is_open() {
        assert_eq!(times(&History::new([entered(1, 10, 1)])), [(10, None)]);
    }
}
