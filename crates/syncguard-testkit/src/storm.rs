//! Processes that acquire and release locks of one store, and are killed or stopped at any moment.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process,
    thread::sleep,
    time::{Duration, Instant},
};

use syncguard_core::{BootClock, Clock, LockKey, Ttl, backend::Mode};

use crate::{
    contender::{Command, Contender, Locking, Reply, Storm},
    history::{End, Entry, Event, History, Incarnation, Journal, JournalError, Record},
};

const PROCESSES: u32 = 6;
const KEYS: u32 = 6;

/// The number of processes that are stopped at the same time, at most.
const MAX_STOPPED: usize = 2;

const TTL: Duration = Duration::from_millis(500);

/// How long a process is stopped: longer than a stopped holder keeps its lock, which is the ttl and
/// the grace.
const STOP_DURATION: Duration = Duration::from_millis(1_700);

/// What the processes of a storm do.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The program `contender`.
    pub program: OsString,
    /// The variables that are added to its environment.
    pub environment: Vec<(String, String)>,
    /// The URL of the store.
    pub url: String,
    /// The file of the journal.
    pub journal: PathBuf,
    /// The modes in which each process acquires locks.
    pub modes: Vec<Mode>,
    /// The number of locks that each process waits for or holds at the same time.
    pub tasks: u32,
    /// Whether to lock at all.
    pub locking: Locking,
}

type Member = (Incarnation, Contender);

/// The processes of a storm. They are killed when it is dropped.
#[derive(Debug)]
pub struct Crowd {
    setting: Setting,
    journal: Journal,
    running: Vec<Member>,
    stopped: VecDeque<(Instant, Member)>,
    started: u32,
    stopped_holders: usize,
}

impl Crowd {
    /// Starts the processes.
    ///
    /// # Errors
    ///
    /// If a process cannot be started or cannot open the store, or the journal cannot be written.
    pub fn start(setting: Setting) -> io::Result<Self> {
        let journal = Journal::open(&setting.journal)?;
        let (running, stopped) = (Vec::new(), VecDeque::new());
        let mut crowd = Self { setting, journal, running, stopped, started: 0, stopped_holders: 0 };
        (0..PROCESSES).try_for_each(|_| crowd.start_one())?;
        Ok(crowd)
    }

    /// Waits for a moment, and then kills a random process, whatever it is doing, or stops one that
    /// holds a lock according to the journal. Another process takes the place of a killed one; a
    /// stopped one is resumed by a later call.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the journal cannot be read.
    pub fn disrupt(&mut self) -> io::Result<()> {
        sleep(Duration::from_millis(20 * (1 + random_below(9)? as u64)));
        self.resume_due()?;
        if self.stopped.len() < MAX_STOPPED && random_below(3)? == 0 {
            let history = self.history()?;
            let holds = |process| history.entries().iter().any(|hold| is_open(hold, process));
            if let Some(victim) = self.running.iter().position(|(process, _)| holds(*process)) {
                let victim = self.running.swap_remove(victim);
                return self.stop(victim);
            }
        }
        let victim = random_below(self.running.len())?;
        let victim = self.running.swap_remove(victim);
        self.kill(victim)
    }

    /// Returns what the journal contains so far.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn history(&self) -> io::Result<History> {
        self.journal.read().map_err(|error| match error {
            JournalError::Unreadable(error) => error,
            torn => io::Error::other(torn),
        })
    }

    /// Returns how many processes were stopped while they held a lock.
    pub fn stopped_holders(&self) -> usize {
        self.stopped_holders
    }

    /// Waits until every process has exited at the end of its input, and returns the journal.
    ///
    /// # Errors
    ///
    /// If a process ends with an error, or the journal cannot be read.
    pub fn finish(mut self) -> io::Result<History> {
        sleep(STOP_DURATION);
        self.resume_due()?;
        for (process, contender) in std::mem::take(&mut self.running) {
            let ended = contender.finish();
            ended.map_err(|error| io::Error::other(format!("{process}: {error}")))?;
        }
        self.history()
    }

    fn start_one(&mut self) -> io::Result<()> {
        self.started += 1;
        let process = Incarnation(self.started);
        let key = |number| LockKey::new(&format!("k{number}")).map_err(io::Error::other);
        let storm = Storm {
            process,
            keys: (0..KEYS).map(key).collect::<io::Result<_>>()?,
            modes: self.setting.modes.clone(),
            tasks: self.setting.tasks,
            ttl: Ttl::new(TTL).map_err(io::Error::other)?,
            journal: self.setting.journal.clone(),
            locking: self.setting.locking,
        };
        let mut program = process::Command::new(&self.setting.program);
        program.envs(self.setting.environment.iter().map(|(name, value)| (name, value)));
        let mut contender = Contender::start(&mut program)?;
        expect(&mut contender, &Command::Open(self.setting.url.clone()), &Reply::Opened)?;
        expect(&mut contender, &Command::Storm(storm), &Reply::Waiting)?;
        self.running.push((process, contender));
        Ok(())
    }

    /// Kills a process and starts another in its place.
    fn kill(&mut self, (process, mut contender): Member) -> io::Result<()> {
        let status = contender.process().kill()?;
        if status.signal() != Some(9) {
            return Err(io::Error::other(format!("{process} had ended before: {status}")));
        }
        let at = BootClock.now();
        self.journal.write(&Record { process, at, event: Event::Died })?;
        self.start_one()
    }

    fn stop(&mut self, (process, mut contender): Member) -> io::Result<()> {
        contender.process().stop()?;
        let is_holder = self.history()?.entries().iter().any(|hold| is_open(hold, process));
        self.stopped_holders += usize::from(is_holder);
        self.stopped.push_back((Instant::now(), (process, contender)));
        Ok(())
    }

    /// Resumes the processes that were stopped for long enough.
    fn resume_due(&mut self) -> io::Result<()> {
        let is_due = |(since, _): &mut (Instant, Member)| since.elapsed() >= STOP_DURATION;
        while let Some((_, (process, mut contender))) = self.stopped.pop_front_if(is_due) {
            contender.process().resume()?;
            self.running.push((process, contender));
        }
        Ok(())
    }
}

fn expect(contender: &mut Contender, command: &Command, expected: &Reply) -> io::Result<()> {
    match contender.request(command)? {
        reply if reply == *expected => Ok(()),
        reply => Err(io::Error::other(format!("{reply:?} instead of {expected:?}"))),
    }
}

fn is_open(hold: &Entry, process: Incarnation) -> bool {
    hold.process == process && hold.end == End::Open
}

/// Returns a random number below `limit`.
fn random_below(limit: usize) -> io::Result<usize> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(usize::try_from(random % limit.max(1) as u64).unwrap_or_default())
}
