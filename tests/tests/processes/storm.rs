//! Processes that acquire and release locks, and are killed or stopped at any moment.

use std::{
    collections::VecDeque,
    os::unix::process::ExitStatusExt,
    thread::sleep,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use syncguard_core::{BootClock, Clock, LockKey, Ttl};
use syncguard_testkit::{
    contender::{Command, Contender, Locking, Reply, Storm},
    history::{End, Entry, Event, Flaw, History, Incarnation, Journal, Record},
};

use super::{SharedDir, key};

const PROCESSES: u32 = 6;
const KEYS: u32 = 6;

/// The number of holds after which a storm may end.
const MIN_HOLDS: usize = 1_000;

/// The number of holders that must have been killed.
const MIN_DEATHS: usize = 5;

/// The number of holders that must have been stopped past their ttl.
const MIN_STOPS: usize = 2;

const TTL: Duration = Duration::from_millis(500);

/// How long a process is stopped: longer than a stopped holder keeps its lock, which is the ttl and
/// the grace.
const STOP_DURATION: Duration = Duration::from_millis(1_700);

/// The longest duration of a storm.
const STORM_TIMEOUT: Duration = Duration::from_secs(90);

type Member = (Incarnation, Contender);

struct Crowd {
    dir: SharedDir,
    journal: Journal,
    locking: Locking,
    running: Vec<Member>,
    stopped: VecDeque<(Instant, Member)>,
    started: u32,
    stopped_holders: usize,
}

impl Crowd {
    fn new(locking: Locking) -> Self {
        let dir = SharedDir::new();
        let journal = Journal::open(dir.journal()).unwrap();
        let (running, stopped) = (Vec::new(), VecDeque::new());
        let mut crowd =
            Self { dir, journal, locking, running, stopped, started: 0, stopped_holders: 0 };
        (0..PROCESSES).for_each(|_| crowd.start_one());
        crowd
    }

    fn start_one(&mut self) {
        self.started += 1;
        let process = Incarnation(self.started);
        let keys: Vec<LockKey> = (0..KEYS).map(|number| key(&format!("k{number}"))).collect();
        let ttl = Ttl::new(TTL).unwrap();
        let (journal, locking) = (self.dir.journal(), self.locking);
        let storm = Storm { process, keys, ttl, journal, locking };
        let mut contender = self.dir.contender();
        assert_eq!(contender.request(&Command::Storm(storm)).unwrap(), Reply::Waiting);
        self.running.push((process, contender));
    }

    /// Kills a random process, whatever it is doing, or stops one that holds a lock according to
    /// the journal.
    fn disrupt_one(&mut self) {
        if self.stopped.len() < 2 && random_below(3) == 0 {
            let history = self.journal.read().unwrap();
            let holds = |process| history.entries().iter().any(|hold| is_open(hold, process));
            if let Some(victim) = self.running.iter().position(|(process, _)| holds(*process)) {
                let victim = self.running.swap_remove(victim);
                return self.stop(victim);
            }
        }
        let victim = self.running.swap_remove(random_below(self.running.len()));
        self.kill(victim);
    }

    /// Kills a process and starts another in its place.
    fn kill(&mut self, (process, mut contender): Member) {
        assert_eq!(contender.process().kill().unwrap().signal(), Some(9));
        let at = BootClock.now();
        self.journal.write(&Record { process, at, event: Event::Died }).unwrap();
        self.start_one();
    }

    fn stop(&mut self, (process, mut contender): Member) {
        contender.process().stop().unwrap();
        let history = self.journal.read().unwrap();
        let is_holder = history.entries().iter().any(|hold| is_open(hold, process));
        self.stopped_holders += usize::from(is_holder);
        self.stopped.push_back((Instant::now(), (process, contender)));
    }

    /// Resumes the processes that were stopped for long enough.
    fn resume_due(&mut self) {
        let is_due = |(since, _): &mut (Instant, Member)| since.elapsed() >= STOP_DURATION;
        while let Some((_, (process, mut contender))) = self.stopped.pop_front_if(is_due) {
            contender.process().resume().unwrap();
            self.running.push((process, contender));
        }
    }

    /// Waits until every process has exited at the end of its input.
    fn finish(mut self) -> (SharedDir, History) {
        sleep(STOP_DURATION);
        self.resume_due();
        for (process, contender) in self.running {
            contender.finish().unwrap_or_else(|error| panic!("{process}: {error}"));
        }
        (self.dir, self.journal.read().unwrap())
    }
}

fn is_open(hold: &Entry, process: Incarnation) -> bool {
    hold.process == process && hold.end == End::Open
}

/// Returns a random number below `limit`.
fn random_below(limit: usize) -> usize {
    usize::try_from(getrandom::u64().unwrap()).unwrap() % limit
}

/// Runs a storm until there were enough holds, kills and stops.
fn storm(locking: Locking) -> (SharedDir, History) {
    let mut crowd = Crowd::new(locking);
    let start = Instant::now();
    loop {
        sleep(Duration::from_millis(20) * u32::try_from(1 + random_below(9)).unwrap());
        crowd.resume_due();
        crowd.disrupt_one();
        let history = crowd.journal.read().unwrap();
        let (holds, deaths) = (history.entries().len(), history.deaths_inside());
        let stops = crowd.stopped_holders;
        if holds >= MIN_HOLDS && deaths >= MIN_DEATHS && stops >= MIN_STOPS {
            break;
        }
        let seen = format!("{holds} stays, {deaths} holders died, {stops} were stopped");
        assert!(start.elapsed() < STORM_TIMEOUT, "{seen}");
    }
    crowd.finish()
}

/// Counts the errors that the integrity check of SQLite reports for the file.
async fn integrity_errors(dir: &SharedDir) -> i64 {
    let options = SqliteConnectOptions::new().filename(dir.store());
    let mut file = options.connect().await.unwrap();
    let sql = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'";
    sqlx::query_scalar(sql).fetch_one(&mut file).await.unwrap()
}

#[tokio::test]
async fn processes_that_are_killed_or_stopped_at_any_moment_never_hold_a_lock_together() {
    let (dir, history) = storm(Locking::Enabled);
    let flaws: Vec<_> = history.flaws().iter().map(Flaw::to_string).collect();
    assert!(flaws.is_empty(), "{flaws:#?}");
    assert_eq!(integrity_errors(&dir).await, 0);
}

#[test]
fn overlaps_of_processes_that_do_not_lock_are_detected() {
    let (_, history) = storm(Locking::Disabled);
    let flaws = history.flaws();
    assert!(flaws.iter().any(|flaw| matches!(flaw, Flaw::Overlap(..))), "{flaws:?}");
}
