//! A process that acquires locks: it executes the commands on its standard input and exits at the
//! end of the input.

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use syncguard_core::{
    BootClock, BootInstant, Clock, Fence, LockGuard, LockKey, LockManager, Renew,
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use syncguard_testkit::{
    contender::{Command, Locking, Renewal, Reply, Storm, WriteResult, from_line, to_line},
    history::{Event, Journal, Record},
    resource::{ResourceFile, Stamp, WriteOutcome},
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Longer than any test waits for a lock.
const WAIT: Duration = Duration::from_secs(60);

fn main() -> Outcome<()> {
    // Renewals run on a worker thread, because this thread blocks on its input.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut contender = Contender { runtime, locks: None, held: None };
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        contender.execute(from_line(&line)?)?;
        line.clear();
    }
    Ok(())
}

struct Contender {
    runtime: Runtime,
    locks: Option<LockManager>,
    held: Option<Held>,
}

/// A guard, and the grant that it was created for.
struct Held {
    guard: LockGuard,
    stamp: Stamp,
}

impl Contender {
    fn execute(&mut self, command: Command) -> Outcome<()> {
        match command {
            Command::Open(path) => {
                let backend =
                    self.runtime.block_on(SqliteBackend::connect(SqliteConfig::new(path)))?;
                self.locks = Some(LockManager::new(backend));
                reply(&Reply::Opened)
            }
            Command::Acquire { key, ttl, renewal } => {
                reply(&Reply::Waiting)?;
                let lock = self.locks()?.lock(key).ttl(ttl).renew(renew(renewal)).wait(WAIT);
                let guard = self.runtime.block_on(lock.acquire())?;
                let stamp = Stamp { fence: guard.fence()?, lock_id: guard.lock_id() };
                self.held = Some(Held { guard, stamp });
                reply(&Reply::Granted(stamp.fence))
            }
            Command::Report => {
                let Held { guard, .. } = self.held.as_ref().ok_or("nothing is held")?;
                let valid = guard.is_valid();
                reply(&Reply::Status { valid, fence: guard.fence().ok() })
            }
            Command::Write(path) => {
                let Held { stamp, .. } = self.held.as_ref().ok_or("nothing is held")?;
                reply(&Reply::Written(write(&path, *stamp)?))
            }
            Command::Release => {
                let Held { guard, .. } = self.held.take().ok_or("nothing is held")?;
                self.runtime.block_on(guard.release())?;
                reply(&Reply::Released)
            }
            Command::Storm(storm) => self.storm(&storm),
        }
    }

    fn locks(&self) -> Outcome<&LockManager> {
        Ok(self.locks.as_ref().ok_or("no store is open")?)
    }

    fn storm(&self, storm: &Storm) -> Outcome<()> {
        let journal = Journal::open(&storm.journal)?;
        let input_ended = end_of_input();
        reply(&Reply::Waiting)?;
        while !input_ended.is_cancelled() {
            let key = &storm.keys[random_below(storm.keys.len())?];
            let hold = Hold { storm, key, journal: &journal };
            match storm.locking {
                Locking::Disabled => hold.run_without_lock()?,
                Locking::Enabled => self.runtime.block_on(hold.run(self.locks()?))?,
            }
        }
        Ok(())
    }
}

/// One hold of one lock in a storm.
struct Hold<'a> {
    storm: &'a Storm,
    key: &'a LockKey,
    journal: &'a Journal,
}

impl Hold<'_> {
    async fn run(&self, locks: &LockManager) -> Outcome<()> {
        // Often too short, so that the storm includes waits that time out at any moment.
        let wait = Duration::from_millis(u64::try_from(random_below(100)?)?);
        let lock = locks.lock(self.key.clone()).ttl(self.storm.ttl).wait(wait);
        let guard = match lock.acquire().await {
            Err(error) if error.is_retryable() => return Ok(()),
            result => result?,
        };
        // The clock is read before the lock is checked: if the lock is held at the check, it was
        // held at that time.
        let entered = BootClock.now();
        let Ok(fence) = guard.fence() else { return Ok(()) };
        let (key, until) = (self.key.clone(), entered + guard.remaining());
        self.record(entered, Event::Entered { key: key.clone(), fence, until })?;
        let mut left = entered;
        for _ in 0..random_below(20)? {
            std::thread::sleep(Duration::from_millis(1));
            let now = BootClock.now();
            if !guard.is_valid() {
                break;
            }
            left = now;
        }
        self.record(left, Event::Left { key, fence })?;
        match guard.release().await {
            Err(error) if !error.is_retryable() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn run_without_lock(&self) -> Outcome<()> {
        let entered = BootClock.now();
        let fence = Fence::new(u64::try_from(entered.since_boot().as_micros())?)?;
        let (key, until) = (self.key.clone(), entered + self.storm.ttl.as_duration());
        self.record(entered, Event::Entered { key: key.clone(), fence, until })?;
        std::thread::sleep(Duration::from_millis(5));
        self.record(BootClock.now(), Event::Left { key, fence })
    }

    fn record(&self, at: BootInstant, event: Event) -> Outcome<()> {
        Ok(self.journal.write(&Record { process: self.storm.process, at, event })?)
    }
}

fn renew(renewal: Renewal) -> Renew {
    match renewal {
        Renewal::Automatic => Renew::Auto,
        Renewal::Disabled => Renew::Never,
    }
}

fn write(path: &Path, stamp: Stamp) -> Outcome<WriteResult> {
    Ok(match ResourceFile::open(path)?.write(stamp)? {
        WriteOutcome::Accepted => WriteResult::Accepted,
        WriteOutcome::Rejected(_) => WriteResult::Rejected,
    })
}

/// Returns a token that is cancelled at the end of the standard input.
fn end_of_input() -> CancellationToken {
    let input_ended = CancellationToken::new();
    let token = input_ended.clone();
    std::thread::spawn(move || {
        io::stdin().lines().for_each(drop);
        token.cancel();
    });
    input_ended
}

/// Returns a random number below `limit`.
fn random_below(limit: usize) -> Outcome<usize> {
    Ok(usize::try_from(getrandom::u64()? % u64::try_from(limit)?)?)
}

fn reply(reply: &Reply) -> Outcome<()> {
    Ok(writeln!(io::stdout(), "{}", to_line(reply)?)?)
}
