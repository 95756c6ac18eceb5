//! Processes that take and leave locks, and are killed or stopped at any moment.

use std::{
    collections::VecDeque,
    os::unix::process::ExitStatusExt,
    thread::sleep,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use syncguard_core::{BootClock, Clock, LockKey, Ttl};
use syncguard_testkit::{
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

type Member = (Incarnation, Contender);

struct Crowd {
    stage: Stage,
    journal: Journal,
    discipline: Discipline,
    members: Vec<Member>,
    asleep: VecDeque<(Instant, Member)>,
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

    /// Kills anybody, wherever they are, or stops somebody who seems to be in a lock.
    fn strike(&mut self) {
        if self.asleep.len() < 2 && draw(3) == 0 {
            let so_far = self.journal.read().unwrap();
            let insider = |process| so_far.entries().iter().any(|stay| is_inside(stay, process));
            if let Some(victim) = self.members.iter().position(|(process, _)| insider(*process)) {
                let victim = self.members.swap_remove(victim);
                return self.stop(victim);
            }
        }
        let victim = self.members.swap_remove(draw(self.members.len()));
        self.kill(victim);
    }

    /// Lets another one take the place of the dead.
    fn kill(&mut self, (process, mut contender): Member) {
        assert_eq!(contender.process().kill().unwrap().signal(), Some(9));
        let at = BootClock.now();
        self.journal.write(&Record { process, at, event: Event::Died }).unwrap();
        self.grow();
    }

    fn stop(&mut self, (process, mut contender): Member) {
        contender.process().stop().unwrap();
        let so_far = self.journal.read().unwrap();
        let inside = so_far.entries().iter().any(|stay| is_inside(stay, process));
        self.naps_inside += usize::from(inside);
        self.asleep.push_back((Instant::now(), (process, contender)));
    }

    /// Wakes those who slept for long enough.
    fn wake(&mut self) {
        let rested = |(since, _): &mut (Instant, Member)| since.elapsed() >= NAP;
        while let Some((_, (process, mut contender))) = self.asleep.pop_front_if(rested) {
            contender.process().resume().unwrap();
            self.members.push((process, contender));
        }
    }

    /// Lets all come to their end by themselves.
    fn disperse(mut self) -> (Stage, History) {
        sleep(NAP);
        self.wake();
        for (process, contender) in self.members {
            contender.finish().unwrap_or_else(|error| panic!("{process}: {error}"));
        }
        (self.stage, self.journal.read().unwrap())
    }
}

fn is_inside(stay: &Entry, process: Incarnation) -> bool {
    stay.process == process && stay.end == End::Open
}

/// Draws a number below `limit`.
fn draw(limit: usize) -> usize {
    usize::try_from(getrandom::u64().unwrap()).unwrap() % limit
}

/// Lets a storm rage until enough has happened.
fn storm(discipline: Discipline) -> (Stage, History) {
    let mut crowd = Crowd::new(discipline);
    let start = Instant::now();
    loop {
        sleep(Duration::from_millis(20) * u32::try_from(1 + draw(9)).unwrap());
        crowd.wake();
        crowd.strike();
        let so_far = crowd.journal.read().unwrap();
        let (stays, deaths) = (so_far.entries().len(), so_far.deaths_inside());
        let naps = crowd.naps_inside;
        if stays >= STAYS && deaths >= DEATHS && naps >= NAPS {
            break;
        }
        let seen = format!("{stays} stays, {deaths} holders died, {naps} were stopped");
        assert!(start.elapsed() < LIMIT, "{seen}");
    }
    crowd.disperse()
}

/// Counts what SQLite finds wrong with the file.
async fn damage(stage: &Stage) -> i64 {
    let options = SqliteConnectOptions::new().filename(stage.store());
    let mut file = options.connect().await.unwrap();
    let sql = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'";
    sqlx::query_scalar(sql).fetch_one(&mut file).await.unwrap()
}

#[tokio::test]
async fn processes_that_are_killed_or_stopped_at_any_moment_never_meet_in_a_lock() {
    let (stage, history) = storm(Discipline::Locks);
    let flaws: Vec<_> = history.flaws().iter().map(Flaw::to_string).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
    assert_eq!(damage(&stage).await, 0);
}

#[test]
fn processes_that_do_not_lock_are_caught_meeting() {
    let (_, history) = storm(Discipline::Trespasses);
    let flaws = history.flaws();
    assert!(flaws.iter().any(|flaw| matches!(flaw, Flaw::Overlap(..))), "{flaws:?}");
}
