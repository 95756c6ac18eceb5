//! Which clients held which keys and when, by the clock of the server, and a check of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use syncguard_core::backend::Mode;

use crate::Foreign;

/// One hold, in microseconds of the server's clock.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// The kind of the client, for messages and counts.
    pub(crate) who: &'static str,
    pub(crate) mode: Mode,
    /// A time after the grant.
    pub(crate) entered: i64,
    /// A time before the release, or `over` if the grant was left to expire.
    pub(crate) left: i64,
    /// The end of the grant. A task may be suspended past its ttl.
    pub(crate) over: i64,
    pub(crate) fence: u64,
    /// Whether the holder lost its lock before the end of the grant.
    pub(crate) lost_early: bool,
}

impl Hold {
    /// Returns how many may hold a key in its mode, of those that hold it in that mode.
    fn places(&self) -> usize {
        match self.mode {
            Mode::Exclusive => 1,
            Mode::Shared { permits: None } => usize::MAX,
            Mode::Shared { permits: Some(permits) } => permits.get() as usize,
        }
    }
}

/// Returns the end of a grant, including its grace period, in microseconds.
pub(crate) fn over(expires_ms: i64) -> i64 {
    (expires_ms + 1_000) * 1_000
}

pub(crate) async fn server_micros(foreign: &mut Foreign) -> i64 {
    foreign.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await
}

/// The record of all holds, and the signal to stop.
#[derive(Default)]
pub(crate) struct Journal {
    holds: Mutex<BTreeMap<String, Vec<Hold>>>,
    stop: AtomicBool,
}

impl Journal {
    pub(crate) fn record(&self, text: &str, hold: Hold) {
        self.holds.lock().unwrap().entry(text.to_owned()).or_default().push(hold);
    }

    /// Counts the holds for which `counts` is true.
    pub(crate) fn count(&self, counts: impl Fn(&Hold) -> bool) -> usize {
        self.holds.lock().unwrap().values().flatten().filter(|hold| counts(hold)).count()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn continues(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Returns the violations of what the locks guarantee.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let mut holds = self.holds.lock().unwrap().clone();
        let flaws = holds.iter_mut().flat_map(|(text, holds)| {
            holds.sort_by_key(|hold| hold.entered);
            let lost_early = holds.iter().filter(|hold| hold.lost_early);
            let mut found: Vec<_> = lost_early.map(|hold| format!("robbed {hold:?}")).collect();
            found.extend(repeated_fences(holds));
            holds.retain(|hold| hold.entered < hold.over);
            found.extend(overlaps(holds));
            found.extend(lower_fences(holds));
            found.into_iter().map(move |flaw| format!("{text}: {flaw}"))
        });
        flaws.collect()
    }
}

/// Compares each hold with those that had not ended when it began.
fn overlaps(holds: &[Hold]) -> Vec<String> {
    let (mut found, mut inside) = (Vec::new(), Vec::<&Hold>::new());
    for hold in holds {
        inside.retain(|other| hold.entered < other.left.min(other.over));
        inside.push(hold);
        if inside.len() > hold.places() || inside.iter().any(|other| other.mode != hold.mode) {
            found.push(format!("overlap {inside:?}"));
        }
    }
    found
}

fn repeated_fences(holds: &[Hold]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let repeated = holds.iter().filter(|hold| !seen.insert(hold.fence));
    repeated.map(|hold| format!("repeated fence {hold:?}")).collect()
}

/// Compares each fence with those of the holds that began before: a writer's with all of them, a
/// reader's with those of writers.
fn lower_fences(holds: &[Hold]) -> Vec<String> {
    let (mut found, mut highest, mut highest_of_writers) = (Vec::new(), 0, 0);
    for hold in holds {
        let before = if hold.mode.is_shared() { highest_of_writers } else { highest };
        if hold.fence <= before {
            found.push(format!("fence after {before} {hold:?}"));
        }
        highest = highest.max(hold.fence);
        if !hold.mode.is_shared() {
            highest_of_writers = highest_of_writers.max(hold.fence);
        }
    }
    found
}

#[test]
fn the_check_finds_holds_that_exclude_each_other_and_fences_out_of_order() {
    let permits = std::num::NonZeroU32::new(2);
    let (write, read, permit) = (Mode::Exclusive, Mode::SHARED, Mode::Shared { permits });
    let flaws = |holds: &[(Mode, i64, i64, u64)]| {
        let journal = Journal::default();
        for &(mode, entered, left, fence) in holds {
            let (who, over, lost_early) = ("task", 100, false);
            journal.record("k", Hold { who, mode, entered, left, over, fence, lost_early });
        }
        journal.flaws().len()
    };
    assert_eq!(flaws(&[(write, 1, 2, 1), (write, 2, 3, 2), (read, 3, 5, 4), (read, 4, 5, 3)]), 0);
    assert_eq!(flaws(&[(permit, 1, 4, 1), (permit, 2, 3, 2), (permit, 3, 4, 3)]), 0);
    assert_eq!(flaws(&[(permit, 1, 4, 1), (permit, 2, 4, 2), (permit, 3, 4, 3)]), 1);
    for (one, other) in [(write, write), (write, read), (read, write), (read, permit)] {
        assert_eq!(flaws(&[(one, 1, 4, 1), (other, 3, 5, 2)]), 1, "{one} {other}");
    }
    for (one, other, expected) in [(read, write, 1), (write, read, 1), (read, read, 0)] {
        assert_eq!(flaws(&[(one, 1, 2, 2), (other, 3, 4, 1)]), expected, "{one} {other}");
    }
    assert_eq!(flaws(&[(read, 1, 2, 2), (read, 3, 4, 2)]), 1);
    assert_eq!(flaws(&[(write, 1, 50, 3), (read, 2, 3, 1), (read, 60, 61, 4)]), 2);
}
