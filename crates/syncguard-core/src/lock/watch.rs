use std::{
    fmt,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    contender::Subscription,
    retry::{Retry, Schedule},
    shared::Shared,
    timer::Timer,
};
use crate::{
    Error, LockId, LockInfo, LockKey, Operation,
    backend::{LockBackend, LockRecord},
};

/// The shortest time between two lookups. A notification may be spurious, and with some stores each
/// of them is; the watch must not become a busy loop.
const MIN_LOOKUP_INTERVAL: Duration = Duration::from_millis(50);

/// Reports who holds a key, first the current holder and then each change. For followers that have
/// to know their [leader](crate::LockManager::leader).
///
/// It looks up the key when the store notifies of a release, when the holder's grant has expired,
/// and otherwise by polling: first 100 ms after a change or a notification, then with delays that
/// double up to 2 s, half of which is random. No two lookups are closer than 50 ms, and at most one
/// is in flight. While the caller polls the watch, a change is therefore reported at most 2 s late,
/// plus the time of the lookup.
///
/// A holder that another one follows between two lookups is not reported. Extends are not changes.
/// The state is that of the lookup and may be out of date when it arrives: check the
/// [fence](crate::Term::fence), and never decide by a watch who may act.
///
/// A watch has no background task. It makes progress only in [`changed`](Self::changed), and a
/// [scope](crate::LockManager::child) does not end it.
#[must_use = "a watch does nothing unless `changed` is called"]
pub struct LockWatch {
    /// The search for the next change. It is kept here between the calls of `changed`, so that a
    /// call that is dropped neither loses a change nor leaves a lookup behind for a second one.
    next: Pin<Box<dyn Future<Output = (Change, Watcher)> + Send>>,
}

type Change = Result<Option<LockInfo>, Error>;

impl LockWatch {
    pub(super) fn new(shared: Arc<Shared>, key: LockKey) -> Self {
        Self { next: Box::pin(Watcher::new(shared, key).next()) }
    }

    /// Waits for a change, and returns the holder, or `None` if no one holds the key. The first
    /// call returns the current state.
    ///
    /// A holder whose grant has expired is returned until the store's grace is over, with no time
    /// [remaining](LockInfo::remaining).
    ///
    /// # Errors
    ///
    /// As [`lookup`](crate::LockManager::lookup), once for each outage: the holder is not known any
    /// more. The watch can still be used. The next call looks up the key again, with the same
    /// delays, until it succeeds, and returns the state that it finds, changed or not.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: if the future is dropped, no change is lost, and the next call
    /// continues with the same lookup.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager};
    /// # async fn example(locks: LockManager) -> Result<(), Error> {
    /// let mut watch = locks.watch("scheduler")?;
    /// loop {
    ///     match watch.changed().await {
    ///         Ok(Some(leader)) => println!("{:?} leads, fence {}", leader.owner, leader.fence),
    ///         Ok(None) => println!("no one leads"),
    ///         Err(error) => println!("the leader is not known: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn changed(&mut self) -> Result<Option<LockInfo>, Error> {
        let (change, watcher) = self.next.as_mut().await;
        // Without an await in between, so that a dropped call cannot lose the change.
        self.next = Box::pin(watcher.next());
        change
    }
}

impl fmt::Debug for LockWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockWatch").finish_non_exhaustive()
    }
}

/// The state of a watch between two changes.
struct Watcher {
    shared: Arc<Shared>,
    key: LockKey,
    /// What the caller knows; `None` before the first lookup.
    known: Option<Observation>,
    /// The delays from lookup to lookup.
    delays: Schedule,
    /// When the next lookup is made, at the latest and at the earliest.
    due: Instant,
    earliest: Instant,
    /// The subscription to the release of the key. It exists only while the key is held: no release
    /// can follow before the next grant, and of a free key some stores notify immediately.
    released: Option<Subscription>,
}

/// The result of a lookup, as far as a difference is a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Observation {
    /// Held under this id; each grant has an id of its own.
    Held(LockId),
    Free,
    /// The lookup failed.
    Failed,
}

impl Watcher {
    fn new(shared: Arc<Shared>, key: LockKey) -> Self {
        let now = Instant::now();
        let delays = delays();
        Self { shared, key, known: None, delays, due: now, earliest: now, released: None }
    }

    /// Looks up the key until there is a change, and returns it.
    async fn next(mut self) -> (Change, Self) {
        loop {
            self.lookup_due().await;
            let reply = self.look_up().await;
            if self.record(&reply) {
                return (reply.map(|record| record.as_ref().map(LockInfo::from)), self);
            }
        }
    }

    /// Completes when the next lookup is due.
    ///
    /// **Invariant:** no release is missed for longer than the first delay of the schedule. A
    /// subscription begins after the lookup that found the key held, and a release in between is in
    /// neither. So the schedule starts again with each subscription: after a change, which is how
    /// the first one begins, and after a notification, which ends one.
    async fn lookup_due(&mut self) {
        tokio::select! {
            () = Timer::at(self.due) => {}
            () = self.released() => {
                self.released = None;
                self.delays = delays();
                Timer::at(self.earliest).await;
            }
        }
    }

    /// Completes when the holder may have released the key; never completes while none is known.
    async fn released(&mut self) {
        let Some(Observation::Held(_)) = self.known else { return pending().await };
        let (backend, key) = (&self.shared.backend, &self.key);
        let released = self.released.get_or_insert_with(|| {
            let (backend, key) = (backend.clone(), key.clone());
            Box::pin(async move { backend.released(&key).await })
        });
        let runtimes = &self.shared.runtimes;
        poll_fn(|context| runtimes.poll_in_context(None, released.as_mut(), context)).await;
    }

    async fn look_up(&mut self) -> Result<Option<LockRecord>, Error> {
        let query = self.key.clone().into();
        let lookup = self.shared.backend.lookup(&query);
        let reply = self.shared.send(Operation::Lookup, lookup).await;
        reply.map_err(|error| error.with_key(&self.key))
    }

    /// Records a reply, and returns whether it differs from what the caller knows.
    fn record(&mut self, reply: &Result<Option<LockRecord>, Error>) -> bool {
        let (observed, free_in) = match reply {
            Ok(Some(record)) => {
                (Observation::Held(record.lock_id), record.holder(self.shared.grace).free_in)
            }
            Ok(None) => (Observation::Free, None),
            Err(_) => (Observation::Failed, None),
        };
        if !matches!(observed, Observation::Held(_)) {
            self.released = None;
        }
        let changed = self.known.replace(observed) != Some(observed);
        if changed {
            self.delays = delays();
        }
        let (now, delay) = (Instant::now(), self.delays.next().unwrap_or_default());
        let delay = free_in.map_or(delay, |free_in| free_in.min(delay));
        self.earliest = now + MIN_LOOKUP_INTERVAL;
        self.due = now + delay.max(MIN_LOOKUP_INTERVAL);
        changed
    }
}

/// Returns the delays between lookups: those of the retries of an acquire, without end.
fn delays() -> Schedule {
    Retry::default().unlimited().schedule()
}
