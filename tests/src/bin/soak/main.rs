//! A soak of one store by one process: many tasks lock in all the ways that there are, and many of
//! their futures are dropped in flight. Afterwards nothing may be left but what is documented: no
//! task, no connection, and at the store only fence counters and the tombstones of abandoned ids.
//!
//! Run with `cargo xtask chaos --soak MINUTES`.

mod leftovers;
mod load;
mod store;

use std::{error::Error, fs, io::Write, process::ExitCode, time::Duration};

use clap::Parser;
use syncguard::{LockManager, ShutdownOutcome, backend::ListRequest};
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

use crate::{
    leftovers::{Left, left, when_quiet},
    load::Load,
    store::Store,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long background releases may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// When the memory is measured for the first time, unless the soak is shorter.
const WARM_UP: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
struct Arguments {
    /// How long the tasks run
    #[arg(long)]
    seconds: u64,
    /// The URL of the store, which nothing else uses
    url: String,
}

fn main() -> Outcome<ExitCode> {
    let Arguments { seconds, url } = Arguments::parse();
    // The runtime of the backend runs nothing else, so that its tasks can be counted.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let inspecting = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let soak = Soak { runtime, inspecting, duration: Duration::from_secs(seconds), url };
    Ok(if soak.run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Soak {
    runtime: Runtime,
    /// The runtime of what looks at the store.
    inspecting: Runtime,
    duration: Duration,
    url: String,
}

impl Soak {
    /// Returns whether nothing was left over, and enough was dropped.
    fn run(&self) -> Outcome<bool> {
        let backend = self.runtime.block_on(syncguard::connect(&self.url))?;
        let locks = LockManager::new(backend);
        let is_enough = self.load(&locks)?;
        let leftovers = self.end(locks)?;
        let mut output = std::io::stdout().lock();
        for Left { count, what } in &leftovers {
            writeln!(output, "  LEFT OVER: {count} {what}")?;
        }
        if leftovers.is_empty() {
            writeln!(output, "  nothing else is left over")?;
        }
        Ok(leftovers.is_empty() && is_enough)
    }

    /// Runs the tasks. Returns whether they dropped enough.
    fn load(&self, locks: &LockManager) -> Outcome<bool> {
        let warm_up = WARM_UP.min(self.duration / 5);
        self.runtime.block_on(async {
            let load = Load::new(locks.clone(), self.duration);
            let warm = async {
                sleep(warm_up).await;
                resident_kib()
            };
            let (ended, warm) = tokio::join!(load.run(), warm);
            ended?;
            let mut output = std::io::stdout();
            let at = warm_up.as_secs();
            writeln!(
                output,
                "  memory: {} KiB after {at} s, {} at the end",
                warm?,
                resident_kib()?
            )?;
            load.report(&mut output)
        })
    }

    /// Ends the use of the store. Returns what is left over once nothing changes any more.
    fn end(&self, locks: LockManager) -> Outcome<Vec<Left>> {
        let pending = match self.runtime.block_on(locks.shutdown(SHUTDOWN_TIMEOUT)) {
            ShutdownOutcome::Drained => 0,
            ShutdownOutcome::TimedOut { pending } => pending,
        };
        let mut store = self.inspecting.block_on(Store::open(&self.url))?;
        let mut leftovers = Vec::from_iter(left(pending, "background releases"));
        leftovers.extend(when_quiet("the store", || {
            let mut seen = self.inspecting.block_on(store.entries())?;
            let page = self.runtime.block_on(locks.list(&ListRequest::new("")))?;
            seen.extend(left(page.locks.len(), "listed locks"));
            for key in locks.stats().keys {
                let name = key.key.as_str();
                seen.extend(left(key.holders, &format!("holders of {name} in this process")));
                seen.extend(left(key.waiters, &format!("waiters for {name} in this process")));
            }
            Ok(seen)
        })?);
        for Left { count, what } in self.inspecting.block_on(store.kept())? {
            writeln!(std::io::stdout(), "  kept, as documented: {count} {what}")?;
        }
        drop(locks);
        leftovers.extend(when_quiet("the process", || {
            let mut seen = self.inspecting.block_on(store.connections())?;
            seen.extend(left(self.runtime.metrics().num_alive_tasks(), "tasks"));
            Ok(seen)
        })?);
        Ok(leftovers)
    }
}

/// Returns how much memory this process has, `0` where the system does not tell.
fn resident_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.map(str::parse).transpose()?.unwrap_or_default())
}
