//! Waiting for a release, by this process or another one.

use std::collections::HashSet;

use syncguard_core::{LockId, LockKey, backend::Mode};
use tokio::time::sleep;

use crate::{
    error::Failure, key_state::KeyState, store::Store, waiters::READ_RETRY_DELAY, worker::Ticket,
};

/// Resolves when, after a change of the database, the key may have become free for someone.
///
/// It joins the watcher first; the watcher publishes any change that is committed later. Changes
/// that were committed before show in the read that follows. An expiry is not a change: the caller
/// knows its time from the last attempt.
///
/// Of a key that is shared, each read is compared with the one before. This backend reads in the
/// order of the requests, so the first one precedes the read of an attempt that is made after the
/// first poll: what ends after such an attempt shows in a comparison.
pub(crate) async fn released(store: &Store, ticket: &Ticket, key: &LockKey) -> Result<(), Failure> {
    let watcher = store.waiters.join(&store.reader);
    let mut changes = watcher.changes();
    let mut before = None;
    loop {
        match read(store, ticket, key).await {
            Ok(taken) => {
                if taken.lets_in_more_than(before.as_ref().unwrap_or(&taken)) {
                    return Ok(());
                }
                before = Some(taken);
            }
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

/// Who keeps others from a key.
#[derive(Debug, Default)]
struct Taken {
    /// The mode in which the key is held.
    mode: Option<Mode>,
    /// The lock id of the key: of its holder, or of the head, which is another one whenever the key
    /// was free in between.
    lock_id: Option<LockId>,
    /// The shared holders.
    holders: HashSet<LockId>,
    is_announced: bool,
}

async fn read(store: &Store, ticket: &Ticket, key: &LockKey) -> Result<Taken, Failure> {
    let rows = store.reader.rows(KeyState::by_key(key, None), ticket).await?;
    let state = KeyState::read(&rows)?;
    let is_announced = state.holders.announcement(state.now).is_some();
    Ok(match state.record() {
        Some(record) => Taken {
            mode: Some(record.mode),
            lock_id: Some(record.lock_id),
            holders: record.holders.iter().map(|holder| holder.lock_id).collect(),
            is_announced,
        },
        None => Taken { is_announced, ..Taken::default() },
    })
}

impl Taken {
    /// Returns whether a request that was refused before may be granted now, or whether one may be
    /// granted that was not refused before either.
    fn lets_in_more_than(&self, before: &Self) -> bool {
        let withdrawn = before.is_announced && !self.is_announced;
        let is_another_lock = self.lock_id != before.lock_id;
        match self.mode {
            None => !self.is_announced || before.mode.is_some(),
            // Whatever was there before, the grant keeps everyone out.
            Some(Mode::Exclusive) => false,
            Some(Mode::Shared { permits }) => {
                let left = permits.is_some() && !before.holders.is_subset(&self.holders);
                withdrawn || is_another_lock || left
            }
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
