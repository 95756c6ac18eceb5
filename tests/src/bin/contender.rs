//! A process that wants locks, does as its standard input says, and ends with it.

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
    contender::{Admission, Discipline, Order, Storm, Upkeep, Word, from_line, to_line},
    history::{Event, Journal, Record},
    resource::{ResourceFile, Stamp, Verdict},
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Longer than any test waits for a lock.
const WAIT: Duration = Duration::from_secs(60);

fn main() -> Outcome<()> {
    // Renewals run on a thread of their own, because this one waits for orders.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut contender = Contender { runtime, locks: None, held: None };
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        contender.obey(from_line(&line)?)?;
        line.clear();
    }
    Ok(())
}

struct Contender {
    runtime: Runtime,
    locks: Option<LockManager>,
    held: Option<Held>,
}

/// A lock, and what was known of it when it was granted.
struct Held {
    guard: LockGuard,
    stamp: Stamp,
}

impl Contender {
    fn obey(&mut self, order: Order) -> Outcome<()> {
        match order {
            Order::Open(path) => {
                let backend =
                    self.runtime.block_on(SqliteBackend::connect(SqliteConfig::new(path)))?;
                self.locks = Some(LockManager::new(backend));
                say(&Word::Opened)
            }
            Order::Acquire { key, ttl, upkeep } => {
                say(&Word::Waiting)?;
                let lock = self.locks()?.lock(key).ttl(ttl).renew(renew(upkeep)).wait(WAIT);
                let guard = self.runtime.block_on(lock.acquire())?;
                let stamp = Stamp { fence: guard.fence()?, lock_id: guard.lock_id() };
                self.held = Some(Held { guard, stamp });
                say(&Word::Granted(stamp.fence))
            }
            Order::Report => {
                let Held { guard, .. } = self.held.as_ref().ok_or("nothing is held")?;
                let valid = guard.is_valid();
                say(&Word::Standing { valid, fence: guard.fence().ok() })
            }
            Order::Write(path) => {
                let Held { stamp, .. } = self.held.as_ref().ok_or("nothing is held")?;
                say(&Word::Wrote(write(&path, *stamp)?))
            }
            Order::Release => {
                let Held { guard, .. } = self.held.take().ok_or("nothing is held")?;
                self.runtime.block_on(guard.release())?;
                say(&Word::Released)
            }
            Order::Storm(storm) => self.storm(&storm),
        }
    }

    fn locks(&self) -> Outcome<&LockManager> {
        Ok(self.locks.as_ref().ok_or("no store is open")?)
    }

    fn storm(&self, storm: &Storm) -> Outcome<()> {
        let journal = Journal::open(&storm.journal)?;
        let over = end_of_input();
        say(&Word::Waiting)?;
        while !over.is_cancelled() {
            let key = &storm.keys[below(storm.keys.len())?];
            let stay = Stay { storm, key, journal: &journal };
            match storm.discipline {
                Discipline::Trespasses => stay.trespass()?,
                Discipline::Locks => self.runtime.block_on(stay.hold(self.locks()?))?,
            }
        }
        Ok(())
    }
}

/// One round of a storm.
struct Stay<'a> {
    storm: &'a Storm,
    key: &'a LockKey,
    journal: &'a Journal,
}

impl Stay<'_> {
    async fn hold(&self, locks: &LockManager) -> Outcome<()> {
        // Often too short, so that giving up at any moment is part of the storm.
        let wait = Duration::from_millis(u64::try_from(below(100)?)?);
        let lock = locks.lock(self.key.clone()).ttl(self.storm.ttl).wait(wait);
        let guard = match lock.acquire().await {
            Err(error) if error.is_retryable() => return Ok(()),
            result => result?,
        };
        // The time first, then the question: if the lock is held now, it was held at that time.
        let entered = BootClock.now();
        let Ok(fence) = guard.fence() else { return Ok(()) };
        let (key, until) = (self.key.clone(), entered + guard.remaining());
        self.record(entered, Event::Entered { key: key.clone(), fence, until })?;
        let mut left = entered;
        for _ in 0..below(20)? {
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

    fn trespass(&self) -> Outcome<()> {
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

fn renew(upkeep: Upkeep) -> Renew {
    match upkeep {
        Upkeep::Renewed => Renew::Auto,
        Upkeep::LeftAlone => Renew::Never,
    }
}

fn write(path: &Path, stamp: Stamp) -> Outcome<Admission> {
    Ok(match ResourceFile::open(path)?.write(stamp)? {
        Verdict::Accepted => Admission::Accepted,
        Verdict::Refused(_) => Admission::Refused,
    })
}

/// Gives a token that is cancelled at the end of the standard input.
fn end_of_input() -> CancellationToken {
    let over = CancellationToken::new();
    let token = over.clone();
    std::thread::spawn(move || {
        io::stdin().lines().for_each(drop);
        token.cancel();
    });
    over
}

/// Draws a number below `limit`.
fn below(limit: usize) -> Outcome<usize> {
    Ok(usize::try_from(getrandom::u64()? % u64::try_from(limit)?)?)
}

fn say(word: &Word) -> Outcome<()> {
    Ok(writeln!(io::stdout(), "{}", to_line(word)?)?)
}
