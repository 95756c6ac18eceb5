//! Deletes fence counters that are no longer used.

use std::io::{self, ErrorKind, Write};

use syncguard::{LockManager, backend::Counters};

use crate::{arguments::Prune, exit::Exit, failure::Failure, store};

/// Retires counters, and prints how many.
pub(crate) async fn prune(arguments: &Prune) -> Result<Exit, Failure> {
    let locks = LockManager::new(store::open(&arguments.store, Counters::Seeded).await?);
    let retired = locks.retire_counters(arguments.counters_unused_for).await?;
    match print(retired) {
        // A reader that closed the pipe early wants no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(Exit::SUCCESS),
    }
}

fn print(retired: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{retired} fence counters deleted")?;
    out.flush()
}
