//! The waiters of this process, and the task that polls the file for them.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use sqlx::Row;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    connection::SharedConnection, error::Failure, statement::Statement, turn::Rank, worker::Ticket,
};

/// How often the file is polled while there are waiters, if it has changed a moment ago. A poll takes
/// some ten microseconds.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How often it is polled if it has not changed for long: a tenth of the polls, so that many
/// processes can wait for a lock that is held for minutes.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// In between, the interval is the time since the last change divided by this. A release is then
/// noticed late by at most that part of the time for which the lock was held.
const POLLS_PER_QUIET_TIME: u32 = 40;

/// The interval is at least this many times as long as a poll takes. With very many processes, polls
/// take long, because all processors are busy with them. The more processes poll, the sooner one of
/// them notices a release, so each can poll less often.
const INTERVAL_PER_POLL: u32 = 20;

/// How long to wait before reading again a database that could not be read.
pub(crate) const READ_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The waiters, and the watcher that they share while there are any.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<Weak<Watcher>>);

/// A task that polls the file. It ends when the last waiter drops its reference.
pub(crate) struct Watcher {
    changes: watch::Receiver<()>,
    task: AbortOnDropHandle<()>,
}

impl Waiters {
    /// Returns the watcher that runs, or starts one on the backend's thread, which is the caller's.
    pub(crate) fn join(&self, reader: &Arc<SharedConnection>) -> Arc<Watcher> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = shared.upgrade() {
            return watcher;
        }
        let (publish, changes) = watch::channel(());
        let task = AbortOnDropHandle::new(tokio::spawn(observe(reader.clone(), publish)));
        let watcher = Arc::new(Watcher { changes, task });
        *shared = Arc::downgrade(&watcher);
        watcher
    }

    /// Returns whether the watcher runs.
    pub(crate) fn is_watching(&self) -> bool {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().is_some_and(|watcher| !watcher.task.is_finished())
    }
}

impl Watcher {
    /// Subscribes to the changes from here on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }
}

/// Publishes each change of the database.
///
/// The first poll counts as a change. Later polls are compared with it, so a waiter that read the
/// lock before it must read the lock again.
async fn observe(reader: Arc<SharedConnection>, publish: watch::Sender<()>) {
    let ticket = Ticket::new(Rank::Other);
    let (mut seen, mut changed) = (None, Instant::now());
    loop {
        let started = Instant::now();
        match data_version(&reader, &ticket).await {
            Ok(version) => {
                let took = started.elapsed();
                if seen.replace(version) != Some(version) {
                    changed = Instant::now();
                    publish.send_replace(());
                }
                sleep(poll_interval(took, changed.elapsed())).await;
            }
            Err(failure) => {
                tracing::debug!(%failure, "the watcher could not read the database");
                sleep(READ_RETRY_DELAY).await;
            }
        }
    }
}

/// Returns when to poll again a database that has not changed for `quiet`, after a poll that took this
/// long.
fn poll_interval(took: Duration, quiet: Duration) -> Duration {
    let interval = (quiet / POLLS_PER_QUIET_TIME).max(took.saturating_mul(INTERVAL_PER_POLL));
    interval.clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)
}

/// Reads the version of the data, together with the connection for which it holds.
async fn data_version(reader: &SharedConnection, ticket: &Ticket) -> Result<(i64, u64), Failure> {
    let statement = Statement::new(include_str!("sql/data_version.sql"));
    let (rows, connection) = reader.run(&statement, ticket).await?;
    let version = rows.first().and_then(|row| row.try_get(0).ok());
    Ok((version.ok_or(Failure::Unreadable("data version"))?, connection))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::poll_interval;

    #[test]
    fn the_longer_nothing_changes_the_less_often_the_file_is_polled() {
        for (quiet_ms, interval_ms) in [(0, 5), (200, 5), (400, 10), (2_000, 50), (60_000, 50)] {
            let interval = poll_interval(Duration::ZERO, Duration::from_millis(quiet_ms));
            assert_eq!(interval, Duration::from_millis(interval_ms), "after {quiet_ms} ms");
        }
    }

    #[test]
    fn the_longer_a_poll_takes_the_less_often_the_file_is_polled() {
        for (poll_us, interval_ms) in [(50, 5), (250, 5), (1_000, 20), (10_000, 50)] {
            let interval = poll_interval(Duration::from_micros(poll_us), Duration::ZERO);
            assert_eq!(interval, Duration::from_millis(interval_ms), "after {poll_us} µs");
        }
    }
}
