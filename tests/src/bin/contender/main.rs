//! A process that acquires locks: it executes the commands on its standard input and exits at the
//! end of the input.

mod grant;
mod hold;
mod member;
mod peer;
mod storm;

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use syncguard::{LockGuard, LockManager, Renew};
use syncguard_testkit::{
    contender::{Command, Renewal, Reply, Storm, WriteResult, from_line, to_line},
    resource::{ResourceFile, Stamp, WriteOutcome},
};
use tokio::runtime::{Builder, Runtime};

use crate::{member::Member, storm::take_part};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Longer than any test waits for a lock.
const WAIT: Duration = Duration::from_secs(60);

fn main() -> Outcome<()> {
    // Renewals run on a worker thread, because this thread blocks on its input.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut contender = Contender { runtime, url: String::new(), locks: None, held: None };
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        contender.execute(from_line(&line)?)?;
        line.clear();
    }
    Ok(())
}

struct Contender {
    runtime: Runtime,
    url: String,
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
                self.url = url;
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
        let member = Member::new(storm, self.url.clone())?;
        let locks = self.locks()?.clone();
        reply(&Reply::Waiting)?;
        self.runtime.block_on(take_part(member, locks))
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

fn reply(reply: &Reply) -> Outcome<()> {
    Ok(writeln!(io::stdout(), "{}", to_line(reply)?)?)
}
