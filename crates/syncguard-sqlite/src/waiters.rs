//! The waiters of this process, and the task that polls the file for them.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use sqlx::Row;
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    connection::SharedConnection, error::Failure, statement::Statement, turn::Rank, worker::Ticket,
};

/// How often the file is polled while there are waiters. A poll takes some ten microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

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
    let mut seen = None;
    loop {
        match data_version(&reader, &ticket).await {
            Ok(version) => {
                if seen.replace(version) != Some(version) {
                    publish.send_replace(());
                }
                sleep(POLL_INTERVAL).await;
            }
            Err(failure) => {
                tracing::debug!(%failure, "the watcher could not read the database");
                sleep(READ_RETRY_DELAY).await;
            }
        }
    }
}

/// Reads the version of the data, together with the connection for which it holds.
async fn data_version(reader: &SharedConnection, ticket: &Ticket) -> Result<(i64, u64), Failure> {
    let statement = Statement::new(include_str!("sql/data_version.sql"));
    let (rows, connection) = reader.run(&statement, ticket).await?;
    let version = rows.first().and_then(|row| row.try_get(0).ok());
    Ok((version.ok_or(Failure::Unreadable("data version"))?, connection))
}
