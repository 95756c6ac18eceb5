//! Which process held which lock and when, and a check of that history.
//!
//! The processes of a test append [`Record`]s to one file, through a [`Journal`]. All of them read
//! the same clock, [`BootClock`](syncguard_core::BootClock), which the kernel keeps for the whole
//! host, so their times can be compared. Afterwards the file is read as a [`History`], and
//! [`History::flaws`] returns the violations of what a lock guarantees.

mod flaw;
mod hold;
mod journal;
mod record;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use flaw::{Flaw, flaws};
pub use hold::{End, Entry};
pub use journal::{Journal, JournalError};
pub use record::{Client, Event, Incarnation, Record};
use syncguard_core::{BootInstant, LockKey};
pub use waiting::{Hole, Wait};

/// What was recorded about the end of a hold.
#[derive(Clone, Copy, Default)]
struct Reports {
    left: Option<BootInstant>,
    released: Option<BootInstant>,
    not_held: Option<BootInstant>,
}

/// All holds, sorted by their beginning, and all waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
    waits: Vec<Wait>,
}

impl History {
    /// Derives the holds and the waits from the records of the processes, which may be in any order.
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let (mut entries, mut leases) = (Vec::new(), Vec::new());
        let mut reports: BTreeMap<_, Reports> = BTreeMap::new();
        let (mut waits, mut wait_ends) = (BTreeMap::new(), BTreeMap::new());
        let (mut deaths, mut stopped) = (BTreeMap::new(), BTreeSet::new());
        for Record { process, at, event } in records {
            let mut report = |key, fence, report: fn(&mut Reports) -> &mut Option<BootInstant>| {
                *report(reports.entry((process, key, fence)).or_default()) = Some(at);
            };
            match event {
                Event::Entered { key, fence, mode, requested, until } => {
                    entries.push(Entry::new(process, key, fence, mode, requested, at));
                    leases.push(until);
                }
                Event::Left { key, fence } => report(key, fence, |all| &mut all.left),
                Event::Released { key, fence } => report(key, fence, |all| &mut all.released),
                Event::NotHeld { key, fence } => report(key, fence, |all| &mut all.not_held),
                Event::WaitBegan { wait, client, key } => {
                    waits.insert((process, wait), Wait::new(process, client, key, at));
                }
                Event::WaitEnded { wait } => drop(wait_ends.insert((process, wait), at)),
                Event::Stopped => drop(stopped.insert(process)),
                Event::Died => drop(deaths.insert(process, at)),
            }
        }
        for (entry, until) in entries.iter_mut().zip(leases) {
            let hold = (entry.process, entry.key.clone(), entry.fence);
            let Reports { left, released, not_held } =
                reports.get(&hold).copied().unwrap_or_default();
            let died = deaths.get(&entry.process).map(|at| until.min(*at));
            (entry.end, entry.released, entry.not_held) = (End::of(left, died), released, not_held);
        }
        for (number, wait) in &mut waits {
            let (left, died) = (wait_ends.get(number), deaths.get(&wait.process));
            wait.end = End::of(left.copied(), died.copied());
            wait.is_continuous = !stopped.contains(&wait.process);
        }
        entries.sort_by_key(|entry| entry.entered);
        Self { entries, waits: waits.into_values().collect() }
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

    /// Returns the waits.
    pub fn waits(&self) -> &[Wait] {
        &self.waits
    }

    /// Returns how many holds are those of such clients.
    pub fn holds_of(&self, client: Client) -> usize {
        let processes = self.waits.iter().filter(|wait| wait.client == client);
        let processes: BTreeSet<_> = processes.map(|wait| wait.process).collect();
        self.entries.iter().filter(|hold| processes.contains(&hold.process)).count()
    }

    /// Returns how many processes died while they waited as such clients.
    pub fn deaths_waiting(&self, client: Client) -> usize {
        let died = self.waits.iter().filter(|wait| matches!(wait.end, End::Died(_)));
        let died = died.filter(|wait| wait.client == client).map(|wait| wait.process);
        died.collect::<BTreeSet<_>>().len()
    }

    /// Returns the longest wait of such a client that the client ended itself, and without a stop.
    pub fn longest_wait(&self, client: Client) -> Option<Duration> {
        let waits = self.waits.iter().filter(|wait| wait.client == client && wait.is_continuous);
        let ended = waits.filter(|wait| matches!(wait.end, End::Left(_)));
        ended.filter_map(|wait| Some(wait.end.at()?.since(wait.began))).max()
    }

    /// Returns the holes in the use of the keys, the longest first. A hold whose release was not
    /// confirmed counts as lasting for `expiry`, which is the ttl and the grace, past its end.
    pub fn holes(&self, expiry: Duration) -> Vec<Hole> {
        waiting::holes(&self.entries, &self.waits, expiry)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::{Fence, backend::Mode};

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
