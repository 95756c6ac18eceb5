//! Processes that acquire and release locks of one store, and are killed or stopped at any moment.
//!
//! Most keys are locked all the time. What a release does for those who wait would not show there: if
//! it woke no one, a newcomer would take the key. So there are also keys that all processes begin to
//! wait for at the same instants, and at no other time.

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
    contender::{Command, Contender, Reply, Storm},
    history::{Client, End, Entry, Event, History, Incarnation, Journal, JournalError, Record},
    random::below,
};

const KEYS: u32 = 6;
const CONVOY_KEYS: u32 = 2;

/// The number of processes that are neither killed nor stopped. What they wait for, they wait for
/// until it is granted.
const STEADY: usize = 2;

/// The number of processes that are stopped at the same time, at most.
const MAX_STOPPED: usize = 2;

const TTL: Duration = Duration::from_millis(500);

/// How long a holder that dies or is stopped keeps its lock: the ttl and the grace of each store.
pub const EXPIRY: Duration = TTL.saturating_add(Duration::from_secs(1));

/// How long a process is stopped: longer than a stopped holder keeps its lock.
const STOP_DURATION: Duration = EXPIRY.saturating_add(Duration::from_millis(200));

/// What a lost notification costs a client that waits, at most, as documented at
/// [`Retry`](syncguard_core::Retry).
const MAX_LOST_NOTIFICATION: Duration = Duration::from_secs(15);

/// The longest time for which a key may be free while a client waits for it. The key may have been
/// granted to a process that died or was stopped before it could record that.
pub const MAX_HOLE: Duration = EXPIRY.saturating_add(MAX_LOST_NOTIFICATION);

/// The ttl of the steady processes in convoys. A client that waits tries again when the holder
/// expires, so after a hold with a short ttl no notification is missed.
const CONVOY_TTL: Duration = Duration::from_secs(60);

/// The time between the convoys. If a release wakes none of those who wait, no newcomer takes the
/// key before the hole is too long.
const CONVOY_PERIOD: Duration = MAX_HOLE.saturating_add(Duration::from_millis(3_500));

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
    /// How each of the processes acquires locks. The first two are neither killed nor stopped.
    pub clients: Vec<Client>,
}

/// A process of a storm.
#[derive(Debug)]
struct Member {
    process: Incarnation,
    client: Client,
    contender: Contender,
}

/// The processes of a storm. They are killed when it is dropped.
#[derive(Debug)]
pub struct Crowd {
    setting: Setting,
    journal: Journal,
    steady: Vec<Member>,
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
        let (clients, stopped) = (setting.clients.clone(), VecDeque::new());
        let (steady, running) = (Vec::new(), Vec::new());
        let mut crowd =
            Self { setting, journal, steady, running, stopped, started: 0, stopped_holders: 0 };
        for (number, client) in clients.into_iter().enumerate() {
            if number < STEADY {
                let member = crowd.start_one(client, CONVOY_TTL)?;
                crowd.steady.push(member);
            } else {
                let member = crowd.start_one(client, TTL)?;
                crowd.running.push(member);
            }
        }
        Ok(crowd)
    }

    /// Waits for a moment, and then kills a random process but the steady ones, whatever it is doing, or stops one that
    /// holds a lock according to the journal. Another process takes the place of a killed one; a
    /// stopped one is resumed by a later call.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and if the journal cannot be read.
    pub fn disrupt(&mut self) -> io::Result<()> {
        sleep(Duration::from_millis(20 * (1 + below(9)? as u64)));
        self.resume_due()?;
        if self.stopped.len() < MAX_STOPPED && below(3)? == 0 {
            let history = self.history()?;
            let holds = |process| history.entries().iter().any(|hold| is_open(hold, process));
            if let Some(victim) = self.running.iter().position(|member| holds(member.process)) {
                let victim = self.running.swap_remove(victim);
                return self.stop(victim);
            }
        }
        let victim = below(self.running.len())?;
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
        let mut members = std::mem::take(&mut self.running);
        members.append(&mut self.steady);
        // All at once: who goes on locking could keep those waiting who are to end.
        members.iter_mut().for_each(|member| member.contender.process().close_input());
        for Member { process, contender, .. } in members {
            let ended = contender.finish();
            ended.map_err(|error| io::Error::other(format!("{process}: {error}")))?;
        }
        self.history()
    }

    fn start_one(&mut self, client: Client, convoy_ttl: Duration) -> io::Result<Member> {
        self.started += 1;
        let process = Incarnation(self.started);
        let storm = Storm {
            process,
            client,
            keys: keys("k", KEYS)?,
            convoy_keys: keys("convoy", CONVOY_KEYS)?,
            convoy_period: CONVOY_PERIOD,
            convoy_ttl: Ttl::new(convoy_ttl).map_err(io::Error::other)?,
            modes: self.setting.modes.clone(),
            tasks: self.setting.tasks,
            ttl: Ttl::new(TTL).map_err(io::Error::other)?,
            journal: self.setting.journal.clone(),
        };
        let mut program = process::Command::new(&self.setting.program);
        program.envs(self.setting.environment.iter().map(|(name, value)| (name, value)));
        let mut contender = Contender::start(&mut program)?;
        expect(&mut contender, &Command::Open(self.setting.url.clone()), &Reply::Opened)?;
        expect(&mut contender, &Command::Storm(storm), &Reply::Waiting)?;
        Ok(Member { process, client, contender })
    }

    /// Kills a process and starts another in its place.
    fn kill(&mut self, Member { process, client, mut contender }: Member) -> io::Result<()> {
        let status = contender.process().kill()?;
        if status.signal() != Some(9) {
            return Err(io::Error::other(format!("{process} had ended before: {status}")));
        }
        let at = BootClock.now();
        self.journal.write(&Record { process, at, event: Event::Died })?;
        let successor = self.start_one(client, TTL)?;
        self.running.push(successor);
        Ok(())
    }

    fn stop(&mut self, mut member: Member) -> io::Result<()> {
        let process = member.process;
        member.contender.process().stop()?;
        self.journal.write(&Record { process, at: BootClock.now(), event: Event::Stopped })?;
        let is_holder = self.history()?.entries().iter().any(|hold| is_open(hold, process));
        self.stopped_holders += usize::from(is_holder);
        self.stopped.push_back((Instant::now(), member));
        Ok(())
    }

    /// Resumes the processes that were stopped for long enough.
    fn resume_due(&mut self) -> io::Result<()> {
        let is_due = |(since, _): &mut (Instant, Member)| since.elapsed() >= STOP_DURATION;
        while let Some((_, mut member)) = self.stopped.pop_front_if(is_due) {
            member.contender.process().resume()?;
            self.running.push(member);
        }
        Ok(())
    }
}

fn keys(name: &str, count: u32) -> io::Result<Vec<LockKey>> {
    let key = |number| LockKey::new(&format!("{name}{number}")).map_err(io::Error::other);
    (0..count).map(key).collect()
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
