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
    error::Failure, lookup::is_locked, statement::Statement, store::Store, turn::Rank,
    worker::Ticket,
};

/// How often the file is looked at while anyone waits. A look takes some ten microseconds.
const GAP: Duration = Duration::from_millis(5);

/// How long to leave a database alone that could not be read.
const PAUSE: Duration = Duration::from_millis(100);

/// Resolves when, after a change of the database, the key has no live grant.
///
/// It joins the watcher first; whatever is committed later is a change that it publishes. What was
/// committed before shows in the reading that follows. A grant that merely expires is no change: the
/// caller knows from its last attempt when that is.
pub(crate) async fn released(
    store: &Arc<Store>,
    ticket: &Ticket,
    key: &LockKey,
) -> Result<(), Failure> {
    let watcher = store.watch.join(store);
    let mut changes = watcher.changes();
    loop {
        match is_locked(store, ticket, key).await {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(Failure::CallerLeft) => return Err(Failure::CallerLeft),
            Err(failure) => {
                tracing::debug!(%failure, "a waiter could not read the lock");
                sleep(PAUSE).await;
                continue;
            }
        }
        tokio::select! {
            biased;
            () = ticket.abandoned() => return Err(Failure::CallerLeft),
            // The watcher lives as long as its waiters, unless it panicked.
            changed = changes.changed() => changed.map_err(|_| Failure::CutOff)?,
        }
    }
}

/// The watcher that all waiters share, while there are any.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Weak<Watcher>>);

/// A task that looks at the file. It ends when the last waiter drops its reference.
struct Watcher {
    changes: watch::Receiver<()>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Returns the watcher that runs, or starts one on the backend's thread, which is the caller's.
    fn join(&self, store: &Arc<Store>) -> Arc<Watcher> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = shared.upgrade() {
            return watcher;
        }
        let (publish, changes) = watch::channel(());
        let task = AbortOnDropHandle::new(tokio::spawn(observe(store.clone(), publish)));
        let watcher = Arc::new(Watcher { changes, _task: task });
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
async fn observe(store: Arc<Store>, publish: watch::Sender<()>) {
    let ticket = Ticket::new(Rank::Other);
    let mut seen = None;
    loop {
        match data_version(&store, &ticket).await {
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
async fn data_version(store: &Store, ticket: &Ticket) -> Result<(i64, u64), Failure> {
    let statement = Statement::new(include_str!("sql/data_version.sql"));
    let (rows, connection) = store.reader.run(statement, ticket).await?;
    let version = rows.first().and_then(|row| row.try_get(0).ok());
    Ok((version.ok_or(Failure::Unreadable("data version"))?, connection))
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc, time::Duration};

    use syncguard_core::{AcquireRequest, LockId, LockKey, Ttl};
    use tokio::{runtime::Handle, time::timeout};

    use super::released;
    use crate::{
        SqliteConfig, acquire::acquire, config::Target, store::Store, turn::Rank, worker::Ticket,
    };

    const MANY_LOOKS: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn the_watcher_ends_with_its_last_waiter() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path().join("locks.db"));
        let store = Store::open(Target::try_from(config).unwrap()).await.unwrap();
        let (store, ticket) = (Arc::new(store), Ticket::new(Rank::Other));
        let key = LockKey::new("key").unwrap();
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(key.clone(), id, Ttl::default());
        let _ = acquire(&store, &ticket, &request).await.unwrap();
        let alive = || Handle::current().metrics().num_alive_tasks();
        assert_eq!(alive(), 0);
        {
            let mut one = pin!(released(&store, &ticket, &key));
            let mut other = pin!(released(&store, &ticket, &key));
            assert!(timeout(MANY_LOOKS, one.as_mut()).await.is_err());
            assert!(timeout(MANY_LOOKS, other.as_mut()).await.is_err());
            assert_eq!(alive(), 1, "one watcher serves all");
        }
        let gone = async {
            while alive() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), gone).await.expect("the watcher outlives its waiters");
    }
}
