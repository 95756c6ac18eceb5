use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ExtendOutcome, Fencing, LockBackend,
    LockId, LockKey, LockQuery, LockRecord, LockRef, Operation, ReleaseOutcome, Ttl, WakeUp,
};
use tokio::time::{Instant, sleep};

/// A store that notes each request, and can be made slow.
#[derive(Clone, Debug)]
pub(super) struct Watched<B> {
    inner: B,
    shared: bool,
    deaf: bool,
    start: Instant,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Debug, Default)]
struct Notes {
    sent: Vec<(Operation, Duration)>,
    on_their_way: HashMap<Operation, usize>,
    most_at_once: HashMap<Operation, usize>,
    delays: HashMap<Operation, Duration>,
    subscriptions: usize,
    early: usize,
}

impl<B> Watched<B> {
    pub(super) fn new(inner: B) -> Self {
        Self { inner, shared: false, deaf: false, start: Instant::now(), notes: Arc::default() }
    }

    /// Says that other processes use the store too.
    pub(super) fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// Notifies no one of a release.
    pub(super) fn deaf(self) -> Self {
        Self { deaf: true, ..self }
    }

    /// Returns when requests of a kind were sent, counted from the start.
    pub(super) fn sent(&self, operation: Operation) -> Vec<Duration> {
        let notes = self.notes();
        let of_kind = notes.sent.iter().filter(|(sent, _)| *sent == operation);
        of_kind.map(|(_, at)| *at).collect()
    }

    /// Returns how many requests of a kind are on their way.
    pub(super) fn on_their_way(&self, operation: Operation) -> usize {
        self.notes().on_their_way.get(&operation).copied().unwrap_or_default()
    }

    /// Returns how many requests of a kind were on their way at once at the most.
    pub(super) fn most_at_once(&self, operation: Operation) -> usize {
        self.notes().most_at_once.get(&operation).copied().unwrap_or_default()
    }

    /// Returns how many futures that wait for a release there are.
    pub(super) fn subscriptions(&self) -> usize {
        self.notes().subscriptions
    }

    /// Lets so many of the next subscriptions resolve at their first poll.
    pub(super) fn resolve_at_once(&self, subscriptions: usize) {
        self.notes().early = subscriptions;
    }

    /// Lets the requests of a kind take so long to reach the store.
    pub(super) fn delay(&self, operation: Operation, delay: Duration) {
        self.notes().delays.insert(operation, delay);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    async fn carry<T>(&self, operation: Operation, request: impl Future<Output = T> + Send) -> T
    where
        B: Sync,
    {
        let _way = Way::begin(self.notes.clone(), operation, self.start.elapsed());
        let delay = self.notes().delays.get(&operation).copied();
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        request.await
    }
}

/// Counts a request for as long as it is on its way.
struct Way(Arc<Mutex<Notes>>, Operation);

impl Way {
    fn begin(shared: Arc<Mutex<Notes>>, operation: Operation, at: Duration) -> Self {
        let mut notes = shared.lock().unwrap();
        notes.sent.push((operation, at));
        let on_its_way = notes.on_their_way.entry(operation).or_default();
        *on_its_way += 1;
        let now = *on_its_way;
        let most = notes.most_at_once.entry(operation).or_default();
        *most = now.max(*most);
        drop(notes);
        Self(shared, operation)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some(on_its_way) = self.0.lock().unwrap().on_their_way.get_mut(&self.1) {
            *on_its_way -= 1;
        }
    }
}

/// Counts a subscription for as long as it exists.
struct Subscription(Arc<Mutex<Notes>>);

impl Subscription {
    fn begin(shared: Arc<Mutex<Notes>>) -> Self {
        shared.lock().unwrap().subscriptions += 1;
        Self(shared)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.lock().unwrap().subscriptions -= 1;
    }
}

impl<B: LockBackend> LockBackend for Watched<B> {
    fn capabilities(&self) -> Capabilities {
        let fencing = if self.shared { Fencing::Durable } else { Fencing::Process };
        let capabilities = self.inner.capabilities().with_fencing(fencing);
        if self.deaf { capabilities.with_wake_up(WakeUp::None) } else { capabilities }
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        self.carry(Operation::Acquire, self.inner.acquire(request)).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        self.carry(Operation::Extend, self.inner.extend(lock, ttl)).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        self.carry(Operation::Release, self.inner.release(lock)).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.inner.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.carry(Operation::Abandon, self.inner.abandon(lock_id, key)).await
    }

    async fn force_release(&self, key: &LockKey) -> Result<Option<LockRecord>, Error> {
        self.carry(Operation::ForceRelease, self.inner.force_release(key)).await
    }

    async fn released(&self, key: &LockKey) {
        if self.deaf {
            return std::future::pending().await;
        }
        let _subscription = Subscription::begin(self.notes.clone());
        let early = self.notes().early.checked_sub(1);
        match early {
            Some(left) => self.notes().early = left,
            None => self.inner.released(key).await,
        }
    }
}
