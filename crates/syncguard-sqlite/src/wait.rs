//! Waiting for a release, by this process or another one.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use sqlx::Row;
use syncguard_core::LockKey;
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    backend::Store,
    connection::{Lane, Statement},
    error::Failure,
    lookup::is_locked,
};

/// How often the file is looked at while somebody waits. A look takes some ten microseconds.
const GAP: Duration = Duration::from_millis(5);

/// How long to leave a database alone that could not be read.
const PAUSE: Duration = Duration::from_millis(100);

/// Resolves when, after a change of the database, the key has no live grant.
///
/// The first poll joins the watcher; whatever is committed later is a change that it publishes. What
/// was committed before shows in the reading that follows. A grant that merely expires is no change:
/// the caller knows from its last attempt when that is.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    let mut watcher = store.watch.join(&store.reader);
    let mut changes = watcher.changes();
    loop {
        match is_locked(store, key).await {
            Ok(false) => return,
            Ok(true) => {
                if changes.changed().await.is_err() {
                    // The watcher ended with the runtime that it was started on. Begin anew on
                    // this one.
                    sleep(PAUSE).await;
                    watcher = store.watch.join(&store.reader);
                    changes = watcher.changes();
                }
            }
            Err(failure) => {
                tracing::debug!(%failure, "a waiter could not read the lock");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Holds the watcher that all waiters share, while there are any.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Weak<Watcher>>);

/// A task that looks at the file. It ends when the last waiter drops its reference.
struct Watcher {
    changes: watch::Receiver<()>,
    task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Gives the watcher that runs, or starts one.
    fn join(&self, reader: &Arc<Lane>) -> Arc<Watcher> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = shared.upgrade().filter(|watcher| !watcher.task.is_finished()) {
            return watcher;
        }
        let (publish, changes) = watch::channel(());
        let task = AbortOnDropHandle::new(tokio::spawn(observe(reader.clone(), publish)));
        let watcher = Arc::new(Watcher { changes, task });
        *shared = Arc::downgrade(&watcher);
        watcher
    }
}

impl Watcher {
    /// Subscribes to the changes from here on.
    fn changes(&self) -> watch::Receiver<()> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }
}

/// Publishes each change of the database.
///
/// The first look counts as a change. What it sees is what later looks are compared with, so a
/// waiter who read the lock before it must read it again.
async fn observe(reader: Arc<Lane>, publish: watch::Sender<()>) {
    let mut seen = None;
    loop {
        match data_version(&reader).await {
            Ok(version) => {
                if seen.replace(version) != Some(version) {
                    publish.send_replace(());
                }
                sleep(GAP).await;
            }
            Err(failure) => {
                tracing::debug!(%failure, "the watcher could not read the database");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Reads the version of the data, together with the connection for which it holds.
async fn data_version(reader: &Arc<Lane>) -> Result<(i64, u64), Failure> {
    let (rows, connection) =
        reader.run(Statement::new(include_str!("sql/data_version.sql"))).await?;
    let version = rows.first().and_then(|row| row.try_get(0).ok());
    Ok((version.ok_or(Failure::Unreadable("data version"))?, connection))
}
