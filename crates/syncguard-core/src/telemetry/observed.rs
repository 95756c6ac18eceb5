use std::{fmt, future::Future, sync::Arc, time::Instant};

use super::{
    Event,
    classification::{Classification, Classify},
    delivery::{EventSender, KeyFormat, RawEvent},
};
use crate::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef,
    },
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
/// use syncguard_core::{LockManager, backend::LockBackend, telemetry::Observed};
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
    sender: Arc<EventSender>,
}

impl<B: LockBackend> Observed<B> {
    /// Reports the operations of `backend` to `observer`, with hashes only.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use syncguard_core::telemetry::{Observed, Outcome};
    /// use syncguard_core::{LockManager, NullBackend, Operation};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let (events, log) = mpsc::channel();
    /// let backend = Observed::new(NullBackend::default(), move |event| {
    ///     let _ = events.send(event.clone());
    /// });
    /// let _guard = LockManager::new(backend).lock("payment:42").acquire().await?;
    /// let event = log.recv().unwrap();
    /// assert_eq!((event.operation, event.outcome), (Operation::Acquire, Outcome::Ok));
    /// assert!(event.key.is_none() && event.key_hash.is_some());
    /// # Ok(()) }
    /// ```
    pub fn new(backend: B, observer: impl FnMut(&Event) + Send + 'static) -> Self {
        Self::builder(backend).start(observer)
    }

    /// Returns a builder for an observed `backend`.
    pub fn builder(backend: B) -> ObservedBuilder<B> {
        ObservedBuilder { backend, capacity: DEFAULT_CAPACITY, keys: KeyFormat::Hashed }
    }

    /// Returns the inner backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Returns how many events were lost so far because the observer was too slow.
    ///
    /// # Examples
    ///
    /// ```
    /// use syncguard_core::{LockManager, NullBackend, telemetry::Observed};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let observed = Observed::new(NullBackend::default(), |event| println!("{event:?}"));
    /// let _guard = LockManager::new(observed.clone()).lock("report").acquire().await?;
    /// assert_eq!(observed.missed(), 0);
    /// # Ok(()) }
    /// ```
    pub fn missed(&self) -> u64 {
        self.sender.missed()
    }

    /// Reports one operation when it ends or is dropped.
    async fn observe<T: Classify>(
        &self,
        operation: Operation,
        key: Option<&LockKey>,
        lock_id: Option<LockId>,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let sender = &*self.sender;
        let mut observation =
            Observation { sender, operation, key, lock_id, start: Instant::now(), open: true };
        let result = request.await;
        observation.end(result.classify());
        result
    }
}

impl<B> fmt::Debug for Observed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("missed", &self.sender.missed()).finish_non_exhaustive()
    }
}

/// Builds an [`Observed`] backend.
#[must_use = "nothing is observed until `start` is called"]
pub struct ObservedBuilder<B> {
    backend: B,
    capacity: usize,
    keys: KeyFormat,
}

impl<B: LockBackend> ObservedBuilder<B> {
    /// Includes keys and lock ids in clear beside their hashes. Keys tend to name people, and
    /// anyone who knows a lock id can release the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use syncguard_core::{LockManager, NullBackend, telemetry::Observed};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard_core::Error> {
    /// let (events, log) = mpsc::channel();
    /// let backend = Observed::builder(NullBackend::default()).reveal().start(move |event| {
    ///     let _ = events.send(event.clone());
    /// });
    /// let _guard = LockManager::new(backend).lock("payment:42").acquire().await?;
    /// assert_eq!(log.recv().unwrap().key.unwrap().as_str(), "payment:42");
    /// # Ok(()) }
    /// ```
    pub fn reveal(self) -> Self {
        Self { keys: KeyFormat::Clear, ..self }
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
        let sender = Arc::new(EventSender::start(self.capacity, self.keys, observer));
        Observed { backend: self.backend, sender }
    }
}

impl<B> fmt::Debug for ObservedBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// An operation in progress. If dropped before its end, it was cancelled or panicked.
struct Observation<'a> {
    sender: &'a EventSender,
    operation: Operation,
    key: Option<&'a LockKey>,
    lock_id: Option<LockId>,
    start: Instant,
    open: bool,
}

impl Observation<'_> {
    fn end(&mut self, classification: Classification) {
        self.open = false;
        self.sender.send(RawEvent {
            operation: self.operation,
            classification,
            key: self.key.cloned(),
            lock_id: self.lock_id.or(classification.lock_id),
            duration: self.start.elapsed(),
        });
    }
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        if self.open {
            self.end(Classification::CANCELLED);
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

    async fn turn(&self, key: &LockKey) {
        self.backend.turn(key).await;
    }

    fn is_subscribed(&self, key: &LockKey) -> bool {
        self.backend.is_subscribed(key)
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.observe(Operation::Check, None, None, self.backend.check()).await
    }
}
