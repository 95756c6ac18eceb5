//! Who was in which lock and when, and what is wrong with that.
//!
//! The processes of a test append [`Record`]s to one file, through a [`Journal`]. All of them read
//! the same clock, [`BootClock`](syncguard_core::BootClock), which the kernel keeps for the whole
//! host, so their times can be compared. Afterwards the file is read as a [`History`], and
//! [`History::flaws`] says what a lock must not have let happen.

mod flaw;
mod journal;
mod record;

use std::collections::BTreeMap;

pub use flaw::{Flaw, flaws};
pub use journal::{Journal, JournalError};
pub use record::{Event, Incarnation, Record};
use syncguard_core::{BootInstant, Fence, LockKey};

/// One stay of one process in one lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub process: Incarnation,
    /// In which lock.
    pub key: LockKey,
    /// Under which fence.
    pub fence: Fence,
    /// When it knew that it had the lock.
    pub entered: BootInstant,
    /// How, and when, the stay ended.
    pub end: End,
}

/// How a stay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By leaving; at this time it knew for the last time that it had the lock.
    Left(BootInstant),
    /// By the death of the process, which was certain at this time, or by the end of the lease, had
    /// that come before.
    Died(BootInstant),
    /// It did not, as far as the records tell.
    Open,
}

impl Entry {
    /// Returns when the stay ended, `None` where it did not.
    pub fn left(&self) -> Option<BootInstant> {
        match self.end {
            End::Left(at) | End::Died(at) => Some(at),
            End::Open => None,
        }
    }
}

/// All stays, in the order of entering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
}

impl History {
    /// Makes the stays of what the processes have recorded, in whatever order they got to it.
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let mut ends = BTreeMap::new();
        let mut deaths = BTreeMap::new();
        let (mut entries, mut leases) = (Vec::new(), Vec::new());
        for Record { process, at, event } in records {
            match event {
                Event::Entered { key, fence, until } => {
                    entries.push(Entry { process, key, fence, entered: at, end: End::Open });
                    leases.push(until);
                }
                Event::Left { key, fence } => {
                    ends.insert((process, key, fence), at);
                }
                Event::Died => {
                    deaths.insert(process, at);
                }
            }
        }
        for (entry, until) in entries.iter_mut().zip(leases) {
            let left = ends.get(&(entry.process, entry.key.clone(), entry.fence)).copied();
            let died = || deaths.get(&entry.process).map(|at| End::Died(until.min(*at)));
            entry.end = left.map(End::Left).or_else(died).unwrap_or(End::Open);
        }
        entries.sort_by_key(|entry| entry.entered);
        Self { entries }
    }

    /// Returns the stays, in the order of entering.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns how many stays were ended by the death of their process.
    pub fn deaths_inside(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.end, End::Died(_))).count()
    }

    /// Returns everything that a lock must not have let happen.
    pub fn flaws(&self) -> Vec<Flaw> {
        flaws(&self.entries)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How long a lease lasts, in milliseconds.
    const LEASE: u64 = 50;

    fn boot(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn record(process: u32, at: u64, event: Event) -> Record {
        Record { process: Incarnation(process), at: boot(at), event }
    }

    fn entered(process: u32, at: u64, fence: u64) -> Record {
        let (key, fence) = (LockKey::new("k").unwrap(), Fence::new(fence).unwrap());
        record(process, at, Event::Entered { key, fence, until: boot(at + LEASE) })
    }

    fn left(process: u32, at: u64, fence: u64) -> Record {
        let (key, fence) = (LockKey::new("k").unwrap(), Fence::new(fence).unwrap());
        record(process, at, Event::Left { key, fence })
    }

    fn times(history: &History) -> Vec<(u128, Option<u128>)> {
        let millis = |at: BootInstant| at.since_boot().as_millis();
        history.entries().iter().map(|e| (millis(e.entered), e.left().map(millis))).collect()
    }

    #[test]
    fn a_stay_lasts_from_entering_to_leaving_whatever_the_order_of_the_records() {
        let records = [left(2, 40, 2), entered(2, 30, 2), entered(1, 10, 1), left(1, 20, 1)];
        assert_eq!(times(&History::new(records)), [(10, Some(20)), (30, Some(40))]);
    }

    #[test]
    fn a_stay_that_its_process_did_not_outlive_ends_at_the_death() {
        let records =
            [entered(1, 10, 1), left(1, 12, 1), entered(1, 20, 2), record(1, 25, Event::Died)];
        let history = History::new(records);
        assert_eq!(times(&history), [(10, Some(12)), (20, Some(25))]);
        assert_eq!(history.deaths_inside(), 1);
    }

    #[test]
    fn who_died_after_its_lease_was_not_inside_any_more() {
        let history = History::new([entered(1, 10, 1), record(1, 200, Event::Died)]);
        assert_eq!(times(&history), [(10, Some(10 + u128::from(LEASE)))]);
    }

    #[test]
    fn a_stay_without_an_end_is_open() {
        assert_eq!(times(&History::new([entered(1, 10, 1)])), [(10, None)]);
    }
}
