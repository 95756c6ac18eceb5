//! A process that acquires locks: it executes the commands on its standard input and exits at the
//! end of the input.

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use syncguard::{
    BootClock, BootInstant, Clock, ErrorKind, Fence, LockGuard, LockKey, LockManager, Loss,
    ReleaseOutcome, Renew, backend::Mode,
};
use syncguard_testkit::{
    contender::{Command, Locking, Renewal, Reply, Storm, WriteResult, from_line, to_line},
    history::{Event, Journal, Record},
    resource::{ResourceFile, Stamp, WriteOutcome},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

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
            Command::Open(url) => {
                let backend = self.runtime.block_on(syncguard::connect(&url))?;
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
            Command::Storm(storm) => self.storm(storm),
        }
    }

    fn locks(&self) -> Outcome<&LockManager> {
        Ok(self.locks.as_ref().ok_or("no store is open")?)
    }

    fn storm(&self, storm: Storm) -> Outcome<()> {
        let journal = Journal::open(&storm.journal)?;
        let member = Arc::new(Member { storm, journal, input_ended: end_of_input() });
        let locks = self.locks()?;
        reply(&Reply::Waiting)?;
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..member.storm.tasks {
                tasks.spawn(member.clone().take_part(locks.clone()));
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok(())
        })
    }
}

/// The part of this process in a storm.
struct Member {
    storm: Storm,
    journal: Journal,
    input_ended: CancellationToken,
}

impl Member {
    async fn take_part(self: Arc<Self>, locks: LockManager) -> Outcome<()> {
        while !self.input_ended.is_cancelled() {
            let key = one_of(&self.storm.keys)?;
            let hold = Hold { member: &self, key, mode: *one_of(&self.storm.modes)? };
            match self.storm.locking {
                Locking::Disabled => hold.run_without_lock().await?,
                Locking::Enabled => hold.run(&locks).await?,
            }
        }
        Ok(())
    }
}

/// One hold of one lock in a storm.
struct Hold<'a> {
    member: &'a Member,
    key: &'a LockKey,
    mode: Mode,
}

impl Hold<'_> {
    async fn run(&self, locks: &LockManager) -> Outcome<()> {
        // Often too short, so that the storm includes waits that time out at any moment.
        let wait = Duration::from_millis(u64::try_from(random_below(200)?)?);
        let requested = BootClock.now();
        let lock = locks.lock(self.key.clone()).mode(self.mode).ttl(self.member.storm.ttl);
        let guard = match lock.wait(wait).acquire().await {
            Err(error) if error.is_retryable() => return Ok(()),
            // Others hold the key with another number of permits, or with none.
            Err(error) if self.mode.is_shared() && error.kind() == ErrorKind::InvalidArgument => {
                return Ok(());
            }
            result => result?,
        };
        // The clock is read before the lock is checked: if the lock is held at the check, it was
        // held at that time.
        let entered = BootClock.now();
        let Ok(fence) = guard.fence() else { return Ok(()) };
        let until = entered + guard.remaining();
        self.record(entered, self.entered(fence, requested, until))?;
        let mut left = entered;
        for _ in 0..random_below(20)? {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if random_below(20)? == 0 {
                self.extend(&guard, fence).await?;
            }
            let now = BootClock.now();
            if !guard.is_valid() {
                break;
            }
            left = now;
        }
        self.record(left, Event::Left { key: self.key.clone(), fence })?;
        self.release(guard, fence).await
    }

    /// Extends the lock. One that has expired is not extended.
    async fn extend(&self, guard: &LockGuard, fence: Fence) -> Outcome<()> {
        match guard.extend(self.member.storm.ttl).await {
            // Such a loss is noticed only within the lease, and otherwise the lease has expired.
            Err(_) if guard.loss() == Some(Loss::NotHeld) => self.record_not_held(fence),
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::Lost => Ok(()),
            result => Ok(result?),
        }
    }

    /// Releases the lock. If that is reported as not held before the lease ends, which is before
    /// the grant can expire, the store has lost the grant. A process that was stopped meanwhile
    /// receives the reply too late for that.
    async fn release(&self, guard: LockGuard, fence: Fence) -> Outcome<()> {
        let until = BootClock.now() + guard.remaining();
        match guard.release().await {
            Ok(ReleaseOutcome::NotHeld(_)) if BootClock.now() < until => {
                self.record_not_held(fence)
            }
            Err(error) if !error.is_retryable() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn record_not_held(&self, fence: Fence) -> Outcome<()> {
        self.record(BootClock.now(), Event::NotHeld { key: self.key.clone(), fence })
    }

    async fn run_without_lock(&self) -> Outcome<()> {
        let entered = BootClock.now();
        let fence = Fence::new(u64::try_from(entered.since_boot().as_micros())?)?;
        let until = entered + self.member.storm.ttl.as_duration();
        self.record(entered, self.entered(fence, entered, until))?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.record(BootClock.now(), Event::Left { key: self.key.clone(), fence })
    }

    fn entered(&self, fence: Fence, requested: BootInstant, until: BootInstant) -> Event {
        Event::Entered { key: self.key.clone(), fence, mode: self.mode, requested, until }
    }

    fn record(&self, at: BootInstant, event: Event) -> Outcome<()> {
        let process = self.member.storm.process;
        Ok(self.member.journal.write(&Record { process, at, event })?)
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

/// Returns a random one of `choices`.
fn one_of<T>(choices: &[T]) -> Outcome<&T> {
    Ok(choices.get(random_below(choices.len())?).ok_or("there is no choice")?)
}

/// Returns a random number below `limit`.
fn random_below(limit: usize) -> Outcome<usize> {
    Ok(usize::try_from(getrandom::u64()? % u64::try_from(limit.max(1))?)?)
}

fn reply(reply: &Reply) -> Outcome<()> {
    Ok(writeln!(io::stdout(), "{}", to_line(reply)?)?)
}
