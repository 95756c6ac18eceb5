use std::{fmt, future::Future, sync::Arc, time::Instant};

use super::{
    Event,
    delivery::{Detail, Feed, Note},
    verdict::{Judged, Verdict},
};
use crate::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ExtendOutcome, Finding, ListRequest,
    LockBackend, LockId, LockKey, LockPage, LockQuery, LockRecord, LockRef, Operation,
    ReleaseOutcome, Ttl,
};

/// The default number of events that may wait for the observer.
const DEFAULT_CAPACITY: usize = 1_024;

/// Wraps a backend and reports each operation to an observer when it ends.
///
/// It behaves as the inner backend. Each operation additionally reads the clock twice and sends one
/// entry to a queue, and it wakes a thread if the previous operation was a second or more ago.
/// Clones share one observer. [`LockBackend::released`] is not reported, because it only waits.
///
/// **Guarantees:** the observer can neither delay nor fail an operation. It runs on its own thread
/// and receives one event at a time, in the order in which the operations ended if one ended before
/// the other. If it is too slow, events are lost and [counted](Event::missed). If it panics, the
/// panic is logged once, and the next event is delivered nevertheless.
///
/// After the last clone is dropped, the observer receives the remaining events and is then dropped
/// itself. The drop does not wait for this. If a program must not miss the last events at its end,
/// the observer can own a value whose drop can be awaited, such as the sender of a channel.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use syncguard_core::{LockBackend, LockManager, telemetry::Observed};
///
/// fn observed(backend: impl LockBackend) -> (LockManager, mpsc::Receiver<String>) {
///     let (lines, log) = mpsc::channel();
///     let observed = Observed::new(backend, move |event| {
///         let took = event.duration;
///         let _ = lines.send(format!("{} ended with {} in {took:?}", event.operation, event.outcome));
///     });
///     (LockManager::new(observed), log)
/// }
/// ```
#[derive(Clone)]
pub struct Observed<B> {
    backend: B,
    feed: Arc<Feed>,
}

impl<B: LockBackend> Observed<B> {
    /// Reports the operations of `backend` to `observer`, with hashes only.
    pub fn new(backend: B, observer: impl FnMut(&Event) + Send + 'static) -> Self {
        Self::builder(backend).start(observer)
    }

    /// Returns a builder for an observed `backend`.
    pub fn builder(backend: B) -> ObservedBuilder<B> {
        ObservedBuilder { backend, capacity: DEFAULT_CAPACITY, detail: Detail::Hashes }
    }

    /// Returns the inner backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Returns how many events were lost so far because the observer was too slow.
    pub fn missed(&self) -> u64 {
        self.feed.missed()
    }

    /// Reports one operation when it ends or is dropped.
    async fn observe<T: Judged>(
        &self,
        operation: Operation,
        key: Option<&LockKey>,
        lock_id: Option<LockId>,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let feed = &*self.feed;
        let mut observation =
            Observation { feed, operation, key, lock_id, start: Instant::now(), open: true };
        let answer = request.await;
        observation.end(answer.verdict());
        answer
    }
}

impl<B> fmt::Debug for Observed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("missed", &self.feed.missed()).finish_non_exhaustive()
    }
}

/// Builds an [`Observed`] backend.
#[must_use = "nothing is observed until an observer is given"]
pub struct ObservedBuilder<B> {
    backend: B,
    capacity: usize,
    detail: Detail,
}

impl<B: LockBackend> ObservedBuilder<B> {
    /// Includes keys and lock ids in clear beside their hashes. Keys tend to name people, and
    /// anyone who knows a lock id can release the lock.
    pub fn reveal(self) -> Self {
        Self { detail: Detail::Clear, ..self }
    }

    /// Sets how many events may wait for the observer, 1024 by default; further events are lost.
    /// Zero counts as one.
    pub fn capacity(self, capacity: usize) -> Self {
        Self { capacity: capacity.max(1), ..self }
    }

    /// Starts the observer. The observer may block and may panic; neither affects an operation.
    ///
    /// If the system cannot start a thread for it, an error is logged and all events are lost.
    pub fn start(self, observer: impl FnMut(&Event) + Send + 'static) -> Observed<B> {
        let feed = Arc::new(Feed::start(self.capacity, self.detail, observer));
        Observed { backend: self.backend, feed }
    }
}

impl<B> fmt::Debug for ObservedBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// An operation in progress. If dropped before its end, it was cancelled or panicked.
struct Observation<'a> {
    feed: &'a Feed,
    operation: Operation,
    key: Option<&'a LockKey>,
    lock_id: Option<LockId>,
    start: Instant,
    open: bool,
}

impl Observation<'_> {
    fn end(&mut self, verdict: Verdict) {
        self.open = false;
        self.feed.send(Note {
            operation: self.operation,
            verdict,
            key: self.key.cloned(),
            lock_id: self.lock_id.or(verdict.lock_id),
            duration: self.start.elapsed(),
        });
    }
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        if self.open {
            self.end(Verdict::CANCELLED);
        }
    }
}

impl<B: LockBackend> LockBackend for Observed<B> {
    fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let (key, lock_id) = (Some(&request.key), Some(request.lock_id));
        self.observe(Operation::Acquire, key, lock_id, self.backend.acquire(request)).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let (key, lock_id) = (lock.key.as_ref(), Some(lock.lock_id));
        self.observe(Operation::Extend, key, lock_id, self.backend.extend(lock, ttl)).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let (key, lock_id) = (lock.key.as_ref(), Some(lock.lock_id));
        self.observe(Operation::Release, key, lock_id, self.backend.release(lock)).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        let (key, lock_id) = match query {
            LockQuery::ByKey(key) => (Some(key), None),
            LockQuery::ById(lock_id) => (None, Some(*lock_id)),
        };
        self.observe(Operation::Lookup, key, lock_id, self.backend.lookup(query)).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let request = self.backend.abandon(lock_id, key);
        self.observe(Operation::Abandon, Some(key), Some(lock_id), request).await
    }

    async fn is_locked(&self, key: &LockKey) -> Result<bool, Error> {
        self.observe(Operation::IsLocked, Some(key), None, self.backend.is_locked(key)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<LockPage, Error> {
        self.observe(Operation::List, None, None, self.backend.list(request)).await
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        let request = self.backend.force_release(key);
        self.observe(Operation::ForceRelease, Some(key), None, request).await
    }

    async fn released(&self, key: &LockKey) {
        self.backend.released(key).await;
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.observe(Operation::Check, None, None, self.backend.check()).await
    }
}
