//! Waiting for a release, by this process or another one.

use syncguard_core::LockKey;
use tokio::time::sleep;

use crate::{
    error::Failure, lookup::is_locked, store::Store, waiters::READ_RETRY_DELAY, worker::Ticket,
};

/// Resolves when, after a change of the database, the key has no live grant.
///
/// It joins the watcher first; the watcher publishes any change that is committed later. Changes
/// that were committed before show in the read that follows. An expiry is not a change: the caller
/// knows its time from the last attempt.
pub(crate) async fn released(store: &Store, ticket: &Ticket, key: &LockKey) -> Result<(), Failure> {
    let watcher = store.waiters.join(&store.reader);
    let mut changes = watcher.changes();
    loop {
        match is_locked(store, ticket, key).await {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(Failure::CallerLeft) => return Err(Failure::CallerLeft),
            Err(failure) => {
                tracing::debug!(%failure, "a waiter could not read the lock");
                sleep(READ_RETRY_DELAY).await;
                continue;
            }
        }
        tokio::select! {
            biased;
            () = ticket.caller_left() => return Err(Failure::CallerLeft),
            // The watcher lives as long as its waiters, unless it panicked.
            changed = changes.changed() => changed.map_err(|_| Failure::CutOff)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use syncguard_core::{LockId, LockKey, Ttl, backend::AcquireRequest};
    use tokio::{runtime::Handle, time::timeout};

    use super::released;
    use crate::{
        SqliteConfig, acquire::acquire, config::Target, store::Store, turn::Rank, worker::Ticket,
    };

    const MANY_POLLS: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn the_watcher_ends_with_its_last_waiter() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(directory.path().join("locks.db"));
        let store = Store::open(Target::try_from(config).unwrap()).await.unwrap();
        let ticket = Ticket::new(Rank::Other);
        let key = LockKey::new("key").unwrap();
        let id = LockId::mint().unwrap();
        let request = AcquireRequest::new(key.clone(), id, Ttl::default());
        let _ = acquire(&store, &ticket, &request).await.unwrap();
        let alive = || Handle::current().metrics().num_alive_tasks();
        assert_eq!(alive(), 0);
        {
            let mut one = pin!(released(&store, &ticket, &key));
            let mut other = pin!(released(&store, &ticket, &key));
            assert!(timeout(MANY_POLLS, one.as_mut()).await.is_err());
            assert!(timeout(MANY_POLLS, other.as_mut()).await.is_err());
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
