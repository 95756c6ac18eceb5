//! Processes that take and leave locks, and are killed or stopped at any moment.

use std::{
    collections::VecDeque,
    ops::Range,
    os::unix::process::ExitStatusExt,
    thread::sleep,
    time::{Duration, Instant},
};

use syncguard_core::{BootClock, Clock, LockKey, Ttl};
use syncguard_tests::{
    contender::{Contender, Discipline, Order, Storm, Word},
    history::{End, Entry, Event, Flaw, History, Incarnation, Journal, Record},
};

use super::{Stage, key};

const CROWD: u32 = 6;
const KEYS: u32 = 6;

/// How many stays make a storm.
const STAYS: usize = 1_000;

/// How many holders must have been killed.
const DEATHS: usize = 5;

/// How many holders must have been stopped past their time.
const NAPS: usize = 2;

const TTL: Duration = Duration::from_millis(500);

/// Longer than a lock is held by somebody who is stopped: the ttl and the grace.
const NAP: Duration = Duration::from_millis(1_700);

/// The longest that a storm may take.
const LIMIT: Duration = Duration::from_secs(90);

struct Crowd {
    stage: Stage,
    journal: Journal,
    discipline: Discipline,
    members: Vec<(Incarnation, Contender)>,
    asleep: VecDeque<(Instant, (Incarnation, Contender))>,
    born: u32,
    naps_inside: usize,
}

impl Crowd {
    fn new(discipline: Discipline) -> Self {
        let stage = Stage::new();
        let journal = Journal::open(stage.journal()).unwrap();
        let (members, asleep) = (Vec::new(), VecDeque::new());
        let mut crowd =
            Self { stage, journal, discipline, members, asleep, born: 0, naps_inside: 0 };
        (0..CROWD).for_each(|_| crowd.grow());
        crowd
    }

    fn grow(&mut self) {
        self.born += 1;
        let process = Incarnation(self.born);
        let keys: Vec<LockKey> = (0..KEYS).map(|number| key(&format!("k{number}"))).collect();
        let ttl = Ttl::new(TTL).unwrap();
        let (journal, discipline) = (self.stage.journal(), self.discipline);
        let storm = Storm { process, keys, ttl, journal, discipline };
        let mut contender = self.stage.contender();
        assert_eq!(contender.ask(&Order::Storm(storm)).unwrap(), Word::Waiting);
        self.members.push((process, contender));
    }

    /// Does something to somebody, wherever they are.
    fn strike(&mut self) {
        let victim = draw(0..u64::try_from(self.members.len()).unwrap());
        let victim = self.members.swap_remove(usize::try_from(victim).unwrap());
        if self.asleep.len() < 2 && draw(0..3) == 0 { self.stop(victim) } else { self.kill(victim) }
    }

    /// Lets another one take the place of the dead.
    fn kill(&mut self, (process, mut contender): (Incarnation, Contender)) {
        assert_eq!(contender.process().kill().unwrap().signal(), Some(9));
        let at = BootClock.now();
        self.journal.write(&Record { process, at, event: Event::Died }).unwrap();
        self.grow();
    }

    fn stop(&mut self, (process, mut contender): (Incarnation, Contender)) {
        contender.process().stop().unwrap();
        let so_far = self.journal.read().unwrap();
        let inside = |entry: &&Entry| entry.process == process && entry.end == End::Open;
        self.naps_inside += so_far.entries().iter().filter(inside).count();
        self.asleep.push_back((Instant::now(), (process, contender)));
    }

    /// Wakes those who slept for long enough.
    fn wake(&mut self) {
        while let Some((_, mut sleeper)) = self.asleep.pop_front_if(|(at, _)| at.elapsed() > NAP) {
            sleeper.1.process().resume().unwrap();
            self.members.push(sleeper);
        }
    }

    fn disperse(mut self) -> History {
        while !self.asleep.is_empty() {
            sleep(Duration::from_millis(10));
            self.wake();
        }
        for (process, contender) in self.members {
            contender.finish().unwrap_or_else(|error| panic!("{process}: {error}"));
        }
        self.journal.read().unwrap()
    }
}

/// Draws a number from a range.
fn draw(range: Range<u64>) -> u64 {
    range.start + getrandom::u64().unwrap() % (range.end - range.start)
}

/// Lets a storm rage until enough has happened.
fn storm(discipline: Discipline) -> History {
    let mut crowd = Crowd::new(discipline);
    let start = Instant::now();
    loop {
        sleep(Duration::from_millis(draw(20..200)));
        crowd.wake();
        crowd.strike();
        let so_far = crowd.journal.read().unwrap();
        let (stays, deaths) = (so_far.entries().len(), so_far.deaths_inside());
        let naps = crowd.naps_inside;
        if stays >= STAYS && deaths >= DEATHS && naps >= NAPS {
            eprintln!("{stays} stays, {deaths} dead holders, {naps} {:?}", start.elapsed());
            break;
        }
        let seen = format!("{stays} stays, {deaths} holders died, {naps} were stopped");
        assert!(start.elapsed() < LIMIT, "{seen}");
    }
    crowd.disperse()
}

#[test]
fn processes_that_are_killed_or_stopped_at_any_moment_never_meet_in_a_lock() {
    let history = storm(Discipline::Locks);
    let flaws: Vec<_> = history.flaws().iter().map(Flaw::to_string).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
}

#[test]
fn processes_that_do_not_lock_are_caught_meeting() {
    let flaws = storm(Discipline::Trespasses).flaws();
    assert!(flaws.iter().any(|flaw| matches!(flaw, Flaw::Overlap(..))), "{flaws:?}");
}
