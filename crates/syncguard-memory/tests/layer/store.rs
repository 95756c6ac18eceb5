use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use syncguard_core::{
    Error, LockId, LockKey, Operation, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Fencing, LockBackend,
        LockQuery, LockRecord, LockRef, WakeUp,
    },
};
use tokio::time::{Instant, sleep};

/// A store that records each request, and can be made slow.
#[derive(Clone, Debug)]
pub(super) struct RecordingStore<B> {
    inner: B,
    shared: bool,
    wake_up: Option<WakeUp>,
    subscribed: bool,
    start: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sent: Vec<(Operation, Duration)>,
    in_flight: HashMap<Operation, usize>,
    max_in_flight: HashMap<Operation, usize>,
    delays: HashMap<Operation, Duration>,
    subscriptions: usize,
    resolve_immediately: usize,
}

impl<B> RecordingStore<B> {
    pub(super) fn new(inner: B) -> Self {
        Self {
            inner,
            shared: false,
            wake_up: None,
            subscribed: false,
            start: Instant::now(),
            state: Arc::default(),
        }
    }

    /// Reports durable fences, as a store that other processes use does.
    pub(super) fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// Notifies no one of a release.
    pub(super) fn without_wake_ups(self) -> Self {
        self.waking_up(WakeUp::None)
    }

    /// Reports that it notifies waiters in this way.
    pub(super) fn waking_up(self, wake_up: WakeUp) -> Self {
        Self { wake_up: Some(wake_up), ..self }
    }

    /// Reports that waiters are notified of releases, whether they are or not.
    pub(super) fn subscribed(self) -> Self {
        Self { subscribed: true, ..self }
    }

    /// Returns when requests of a kind were sent, counted from the start.
    pub(super) fn sent(&self, operation: Operation) -> Vec<Duration> {
        let state = self.state();
        let of_kind = state.sent.iter().filter(|(sent, _)| *sent == operation);
        of_kind.map(|(_, at)| *at).collect()
    }

    /// Returns how many requests of a kind are in flight.
    pub(super) fn in_flight(&self, operation: Operation) -> usize {
        self.state().in_flight.get(&operation).copied().unwrap_or_default()
    }

    /// Returns the maximum number of requests of a kind that were in flight at the same time.
    pub(super) fn max_in_flight(&self, operation: Operation) -> usize {
        self.state().max_in_flight.get(&operation).copied().unwrap_or_default()
    }

    /// Returns the number of futures that wait for a release.
    pub(super) fn subscriptions(&self) -> usize {
        self.state().subscriptions
    }

    /// Makes this many of the next subscriptions resolve at their first poll.
    pub(super) fn resolve_immediately(&self, subscriptions: usize) {
        self.state().resolve_immediately = subscriptions;
    }

    /// Delays the requests of a kind by this time before they reach the store.
    pub(super) fn delay(&self, operation: Operation, delay: Duration) {
        self.state().delays.insert(operation, delay);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn send<T>(&self, operation: Operation, request: impl Future<Output = T> + Send) -> T
    where
        B: Sync,
    {
        let _in_flight = InFlight::begin(self.state.clone(), operation, self.start.elapsed());
        let delay = self.state().delays.get(&operation).copied();
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        request.await
    }
}

/// Counts a request while it is in flight.
struct InFlight(Arc<Mutex<State>>, Operation);

impl InFlight {
    fn begin(shared: Arc<Mutex<State>>, operation: Operation, at: Duration) -> Self {
        let mut state = shared.lock().unwrap();
        state.sent.push((operation, at));
        let in_flight = state.in_flight.entry(operation).or_default();
        *in_flight += 1;
        let now = *in_flight;
        let max = state.max_in_flight.entry(operation).or_default();
        *max = now.max(*max);
        drop(state);
        Self(shared, operation)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(in_flight) = self.0.lock().unwrap().in_flight.get_mut(&self.1) {
            *in_flight -= 1;
        }
    }
}

/// Counts a subscription for as long as it exists.
struct Subscription(Arc<Mutex<State>>);

impl Subscription {
    fn begin(shared: Arc<Mutex<State>>) -> Self {
        shared.lock().unwrap().subscriptions += 1;
        Self(shared)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.lock().unwrap().subscriptions -= 1;
    }
}

impl<B: LockBackend> LockBackend for RecordingStore<B> {
    fn capabilities(&self) -> Capabilities {
        let fencing = if self.shared { Fencing::Durable } else { Fencing::Process };
        let capabilities = self.inner.capabilities().with_fencing(fencing);
        match self.wake_up {
            Some(wake_up) => capabilities.with_wake_up(wake_up),
            None => capabilities,
        }
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        self.send(Operation::Acquire, self.inner.acquire(request)).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        self.send(Operation::Extend, self.inner.extend(lock, ttl)).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        self.send(Operation::Release, self.inner.release(lock)).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.send(Operation::Lookup, self.inner.lookup(query)).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.send(Operation::Abandon, self.inner.abandon(lock_id, key)).await
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        self.send(Operation::ForceRelease, self.inner.force_release(key)).await
    }

    async fn released(&self, key: &LockKey) {
        if self.wake_up == Some(WakeUp::None) {
            return std::future::pending().await;
        }
        let _subscription = Subscription::begin(self.state.clone());
        let resolve_immediately = self.state().resolve_immediately.checked_sub(1);
        match resolve_immediately {
            Some(left) => self.state().resolve_immediately = left,
            None => self.inner.released(key).await,
        }
    }

    fn is_subscribed(&self, _: &LockKey) -> bool {
        self.subscribed
    }
}
