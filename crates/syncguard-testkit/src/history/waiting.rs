use std::{cmp::Reverse, collections::BTreeMap, fmt, ops::Range, time::Duration};

use syncguard_core::{BootInstant, LockKey};

use super::{
    hold::{End, Entry},
    record::{Client, Incarnation},
};

/// One wait of one process for one lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The process.
    pub process: Incarnation,
    /// How it acquires locks.
    pub client: Client,
    /// The key of the lock.
    pub key: LockKey,
    /// When the process began to wait.
    pub began: BootInstant,
    /// How, and when, the wait ended.
    pub end: End,
    /// Whether the process was never stopped.
    pub is_continuous: bool,
}

impl Wait {
    /// Creates a wait without an end.
    pub(super) fn new(
        process: Incarnation,
        client: Client,
        key: LockKey,
        began: BootInstant,
    ) -> Self {
        Self { process, client, key, began, end: End::Open, is_continuous: true }
    }
}

/// A time for which no one held a key, although a client waited for it all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The wait.
    pub wait: Wait,
    /// When the key was free and the client waited.
    pub from: BootInstant,
    /// When the key was granted again, or the client ceased to wait.
    pub until: BootInstant,
}

impl Hole {
    /// Returns how long the hole is.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.until.since(self.from)
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wait { process, key, .. } = &self.wait;
        let (key, from, duration) = (key.as_str(), self.from.since_boot(), self.duration());
        write!(f, "{process} waited for {key:?}, which was free: {duration:?} from {from:?} on")
    }
}

/// The time at which a wait or a hold without an end ends.
const NEVER: BootInstant = BootInstant::from_boot(Duration::MAX);

/// Finds, of each time for which a key was free, the longest part during which one client waited.
/// The longest are first.
///
/// A key is free while no one holds it in any mode. A client that was stopped could not have taken
/// it, so its waits do not count.
pub(super) fn holes(entries: &[Entry], waits: &[Wait], expiry: Duration) -> Vec<Hole> {
    let mut keys: BTreeMap<&LockKey, (Vec<&Entry>, Vec<&Wait>)> = BTreeMap::new();
    for entry in entries {
        keys.entry(&entry.key).or_default().0.push(entry);
    }
    for wait in waits.iter().filter(|wait| wait.is_continuous) {
        keys.entry(&wait.key).or_default().1.push(wait);
    }
    let mut found = Vec::new();
    for (entries, waits) in keys.values() {
        found.extend(holes_of_key(&free_times(entries, expiry), waits));
    }
    found.sort_by_key(|hole| Reverse(hole.duration()));
    found
}

/// Returns the times for which a key was free, in their order.
fn free_times(entries: &[&Entry], expiry: Duration) -> Vec<Range<BootInstant>> {
    let (mut times, mut free_from) = (Vec::new(), BootInstant::from_boot(Duration::ZERO));
    for entry in entries {
        if free_from < entry.entered {
            times.push(free_from..entry.entered);
        }
        let expired = || entry.left().map(|left| left + expiry);
        free_from = free_from.max(entry.released.or_else(expired).unwrap_or(NEVER));
    }
    times.push(free_from..NEVER);
    times
}

fn holes_of_key(free: &[Range<BootInstant>], waits: &[&Wait]) -> Vec<Hole> {
    let mut longest: Vec<Option<(Range<BootInstant>, &Wait)>> = vec![None; free.len()];
    for &wait in waits {
        let ended = wait.end.at().unwrap_or(NEVER);
        let first = free.partition_point(|time| time.end <= wait.began);
        for (time, longest) in free.iter().zip(&mut longest).skip(first) {
            if ended <= time.start {
                break;
            }
            let shared = time.start.max(wait.began)..time.end.min(ended);
            if longest.as_ref().is_none_or(|(longest, _)| duration(longest) < duration(&shared)) {
                *longest = Some((shared, wait));
            }
        }
    }
    let holes = longest.into_iter().flatten();
    holes
        .map(|(Range { start: from, end: until }, wait)| Hole { wait: wait.clone(), from, until })
        .collect()
}

fn duration(time: &Range<BootInstant>) -> Duration {
    time.end.since(time.start)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use syncguard_core::{Fence, backend::Mode};

    use super::*;
    use crate::history::{Event, History, Record};

    /// How long a grant of a dead process counts as held.
    const EXPIRY: Duration = Duration::from_millis(100);

    fn boot(millis: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_millis(millis))
    }

    fn record(process: u32, at: u64, event: Event) -> Record {
        Record { process: Incarnation(process), at: boot(at), event }
    }

    /// A hold whose release was confirmed.
    fn held(process: u32, fence: u64, entered: u64, left: u64) -> Vec<Record> {
        let (key, fence) = (key(), Fence::new(fence).unwrap());
        let released = Event::Released { key: key.clone(), fence };
        let mut records = holding(process, fence.number(), entered);
        records.push(record(process, left, Event::Left { key, fence }));
        records.push(record(process, left, released));
        records
    }

    /// A hold without an end.
    fn holding(process: u32, fence: u64, entered: u64) -> Vec<Record> {
        let (mode, requested) = (Mode::Exclusive, boot(entered));
        let (key, fence, until) = (key(), Fence::new(fence).unwrap(), boot(entered + 50));
        vec![record(process, entered, Event::Entered { key, fence, mode, requested, until })]
    }

    fn began(process: u32, at: u64) -> Record {
        let (wait, client, key) = (1, Client::Waiting, key());
        record(process, at, Event::WaitBegan { wait, client, key })
    }

    fn waited(process: u32, from: u64, until: u64) -> Vec<Record> {
        vec![began(process, from), record(process, until, Event::WaitEnded { wait: 1 })]
    }

    fn key() -> LockKey {
        LockKey::new("k").unwrap()
    }

    /// Returns the process that waited, and the beginning and the end of each hole.
    fn holes<const N: usize>(records: [Vec<Record>; N]) -> Vec<(u32, u128, u128)> {
        let millis = |at: BootInstant| at.since_boot().as_millis();
        let holes = History::new(records.concat()).holes(EXPIRY);
        let seen = |hole: &Hole| (hole.wait.process.0, millis(hole.from), millis(hole.until));
        holes.iter().map(seen).collect()
    }

    #[test]
    fn a_free_key_is_a_hole_only_while_a_client_waits_for_it() {
        let holds = || [held(1, 1, 10, 20), held(2, 2, 60, 70)].concat();
        assert_eq!(holes([holds()]), []);
        assert_eq!(holes([holds(), waited(3, 5, 15)]), [(3, 5, 10)]);
        assert_eq!(holes([holds(), waited(3, 30, 40)]), [(3, 30, 40)]);
        assert_eq!(holes([holds(), waited(3, 12, 65)]), [(3, 20, 60)]);
        assert_eq!(holes([holds(), waited(3, 65, 90)]), [(3, 70, 90)]);
    }

    #[test]
    fn a_hole_is_as_long_as_one_client_waits_not_several_in_turn() {
        let waits = [waited(3, 20, 30), waited(4, 30, 45), waited(5, 45, 50)].concat();
        assert_eq!(holes([held(1, 1, 10, 20), waits]), [(4, 30, 45)]);
    }

    #[test]
    fn the_longest_hole_is_first() {
        let holds = [held(1, 1, 10, 20), held(2, 2, 25, 30), held(1, 3, 50, 60)].concat();
        assert_eq!(holes([holds, waited(3, 15, 62)]), [(3, 30, 50), (3, 20, 25), (3, 60, 62)]);
    }

    #[test]
    fn a_key_is_free_only_when_the_last_of_those_who_share_it_has_left() {
        let holds = [held(1, 1, 10, 60), held(2, 2, 20, 30), held(4, 3, 80, 90)].concat();
        let shared = holds.into_iter().map(|mut record| {
            if let Event::Entered { mode, .. } = &mut record.event {
                *mode = Mode::Shared { permits: NonZeroU32::new(2) };
            }
            record
        });
        assert_eq!(holes([shared.collect(), waited(3, 15, 85)]), [(3, 60, 80)]);
    }

    #[test]
    fn the_grant_of_a_dead_process_is_not_free_until_it_has_expired() {
        let died = |at| vec![record(1, at, Event::Died)];
        let holding = || holding(1, 1, 10);
        assert_eq!(holes([holding(), died(20), waited(3, 5, 130)]), [(3, 120, 130), (3, 5, 10)]);
        assert_eq!(holes([holding(), waited(3, 15, 999)]), [], "it never ended");
        // It left, but its release is not known to have arrived.
        let mut left = held(1, 1, 10, 20);
        left.pop();
        assert_eq!(holes([left, died(21), waited(3, 15, 130)]), [(3, 120, 130)]);
    }

    #[test]
    fn a_wait_ends_with_its_process() {
        let died = vec![began(3, 15), record(3, 40, Event::Died)];
        assert_eq!(holes([held(1, 1, 10, 20), died]), [(3, 20, 40)]);
    }

    #[test]
    fn a_stopped_process_could_not_have_taken_a_free_key() {
        let stopped = vec![record(3, 30, Event::Stopped)];
        assert_eq!(holes([held(1, 1, 10, 20), waited(3, 15, 90), stopped]), []);
    }

    #[test]
    fn a_key_that_is_never_granted_is_a_hole() {
        assert_eq!(holes([waited(3, 15, 90)]), [(3, 15, 90)]);
    }

    #[test]
    fn deaths_and_the_longest_wait_are_those_of_one_kind_of_client() {
        let polling = |mut records: Vec<Record>| {
            for record in &mut records {
                if let Event::WaitBegan { client, .. } = &mut record.event {
                    *client = Client::Polling;
                }
            }
            records
        };
        let died = |process| vec![record(process, 50, Event::Died)];
        let ended = [waited(1, 10, 30), polling(waited(2, 10, 40))].concat();
        let dead = [vec![began(3, 10)], polling(vec![began(4, 10)]), died(3), died(4), died(1)];
        let history = History::new([ended, dead.concat()].concat());
        assert_eq!(history.deaths_waiting(Client::Waiting), 1);
        assert_eq!(history.longest_wait(Client::Waiting), Some(Duration::from_millis(20)));
        assert_eq!(history.longest_wait(Client::Polling), Some(Duration::from_millis(30)));
        assert_eq!(history.longest_wait(Client::TypeScript), None);
    }
}
