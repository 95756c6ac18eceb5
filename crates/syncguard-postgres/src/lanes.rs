//! Requests for one key that are sent together, one batch at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use syncguard_core::{
    LockId,
    backend::{AcquireOutcome, Mode},
    pool::{BatchLimits, Batcher, SendBatch},
};
use tokio::time::Instant;

use crate::{
    batch::{BATCH_SIZE, answered},
    connection::Connections,
    error::Failure,
    leaves,
    names::StoredKey,
    serial::Serial,
    shares::{self, Share},
    sql::Sql,
};

/// The queues of the requests of shared mode, by key.
///
/// The server carries out the requests for one key one after the other. If each were sent by itself,
/// each would occupy a connection while it waits for the others. Therefore one batch for a key is in
/// flight at a time. The requests that arrive meanwhile are sent together with the next one of their
/// kind.
///
/// The queues of a key exist for as long as a caller waits for its answer. The callers are counted
/// under the lock of the map.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<HashMap<String, Lane>>);

struct Lane {
    callers: usize,
    serial: Serial,
    shares: HashMap<Mode, Arc<Batcher<shares::Sender>>>,
    leaves: Option<Arc<Batcher<leaves::Sender>>>,
}

impl Lanes {
    /// Requests a grant in shared mode.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the request from the queue. A request that was already sent is
    /// completed.
    pub(crate) async fn share(
        &self,
        connections: &Arc<Connections>,
        sql: &Sql,
        key: StoredKey,
        mode: Mode,
        share: Share,
    ) -> Result<AcquireOutcome, Failure> {
        let caller = self.enter(connections, &key.key.clone(), |lane| {
            let sender = || shares::Sender::new(lane.serial.clone(), sql, key, mode);
            lane.shares.entry(mode).or_insert_with(|| queue(connections, sender())).clone()
        });
        answered(caller.queue.send(Instant::now(), share).await)
    }

    /// Ends a grant in shared mode, and returns whether it was live.
    ///
    /// # Cancel safety
    ///
    /// As for [`share`](Self::share).
    pub(crate) async fn leave(
        &self,
        connections: &Arc<Connections>,
        sql: &Sql,
        channel: &str,
        key: &str,
        lock_id: LockId,
    ) -> Result<bool, Failure> {
        let caller = self.enter(connections, key, |lane| {
            let sender = || leaves::Sender::new(lane.serial.clone(), sql, channel, key);
            lane.leaves.get_or_insert_with(|| queue(connections, sender())).clone()
        });
        answered(caller.queue.send(Instant::now(), lock_id).await)
    }

    fn enter<'a, S: SendBatch>(
        &'a self,
        connections: &Arc<Connections>,
        key: &str,
        queue: impl FnOnce(&mut Lane) -> Arc<Batcher<S>>,
    ) -> Caller<'a, S> {
        let mut lanes = self.lock();
        let lane = lanes.entry(key.to_owned()).or_insert_with(|| Lane {
            callers: 0,
            serial: Serial::new(connections),
            shares: HashMap::new(),
            leaves: None,
        });
        lane.callers += 1;
        Caller { lanes: self, key: key.to_owned(), queue: queue(lane) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn queue<S: SendBatch>(connections: &Connections, sender: S) -> Arc<Batcher<S>> {
    let limits = BatchLimits { requests: BATCH_SIZE, connections: 1 };
    Arc::new(Batcher::new(sender, limits, connections.runtime.clone()))
}

/// A caller that waits for its answer. The queues of a key are removed with the last one.
struct Caller<'a, S: SendBatch> {
    lanes: &'a Lanes,
    key: String,
    queue: Arc<Batcher<S>>,
}

impl<S: SendBatch> Drop for Caller<'_, S> {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock();
        let callers = lanes.get_mut(&self.key).map(|lane| {
            lane.callers -= 1;
            lane.callers
        });
        let unused = if callers == Some(0) { lanes.remove(&self.key) } else { None };
        drop(lanes);
        drop(unused);
    }
}
