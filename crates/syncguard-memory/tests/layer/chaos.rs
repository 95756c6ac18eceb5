//! Many processes, each in a task, on a network that delays and loses messages at random.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use syncguard_core::{
    BootInstant, Clock, Error, ErrorKind, Fence, Lease, LockId, LockKey, LockManager, Operation,
    ReleaseOutcome, Renew, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, LockBackend, LockQuery,
        LockRecord, LockRef, Mode,
    },
};
use syncguard_memory::MemoryBackend;
use syncguard_testkit::history::{Event, Flaw, History, Incarnation, Record};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    World, drained, key,
    time::{millis, secs},
};

const PROCESSES: u32 = 8;
const KEYS: u64 = 2;
const ROUNDS_PER_PROCESS: usize = 40;

/// How long a request may take before its caller considers it lost.
const REQUEST_TIMEOUT: Duration = secs(2);

/// The maximum one-way latency of a message.
const MAX_LATENCY: Duration = secs(6);

/// Generates pseudorandom numbers, the same ones for the same seed (SplitMix64, Steele, Lea and
/// Flood 2014).
#[derive(Clone, Debug)]
struct Random(Arc<AtomicU64>);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    fn below(&self, limit: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Returns true with a probability of one in `count`.
    fn is_one_in(&self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Returns a random one-way latency: usually short, sometimes longer than the request timeout.
    fn latency(&self) -> Duration {
        let limit = if self.is_one_in(10) { MAX_LATENCY } else { millis(20) };
        millis(self.below(u64::try_from(limit.as_millis()).unwrap()))
    }
}

/// A store behind an unreliable network. A message in flight arrives even if its sender is dropped.
#[derive(Clone)]
struct UnreliableStore {
    store: MemoryBackend,
    random: Random,
    lost: Arc<AtomicUsize>,
    late: Arc<AtomicUsize>,
}

impl UnreliableStore {
    async fn send<T, F>(
        &self,
        operation: Operation,
        request: impl FnOnce(MemoryBackend) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (to_store, from_store) = (self.random.latency(), self.random.latency());
        let (request_lost, reply_lost) = (self.random.is_one_in(12), self.random.is_one_in(12));
        if to_store + from_store > REQUEST_TIMEOUT {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
        let request = request(self.store.clone());
        let delivery = tokio::spawn(async move {
            sleep(to_store).await;
            if request_lost {
                return None;
            }
            let reply = request.await;
            sleep(from_store).await;
            Some(reply).filter(|_| !reply_lost)
        });
        match delivery.await.unwrap() {
            Some(reply) => reply,
            None => {
                self.lost.fetch_add(1, Ordering::SeqCst);
                Err(Error::new(ErrorKind::NetworkTimeout).with_operation(operation))
            }
        }
    }
}

impl LockBackend for UnreliableStore {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let request = request.clone();
        let acquire = |store: MemoryBackend| async move { store.acquire(&request).await };
        self.send(Operation::Acquire, acquire).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let lock = lock.clone();
        let extend = |store: MemoryBackend| async move { store.extend(&lock, ttl).await };
        self.send(Operation::Extend, extend).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let lock = lock.clone();
        let release = |store: MemoryBackend| async move { store.release(&lock).await };
        self.send(Operation::Release, release).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.store.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let key = key.clone();
        let abandon = |store: MemoryBackend| async move { store.abandon(lock_id, &key).await };
        self.send(Operation::Abandon, abandon).await
    }

    async fn released(&self, key: &LockKey) {
        self.store.released(key).await;
    }
}

/// One process.
struct Process {
    number: Incarnation,
    locks: LockManager,
    clock: Arc<dyn Clock>,
    random: Random,
    records: UnboundedSender<Record>,
}

impl Process {
    async fn run(self) -> LockManager {
        for _ in 0..ROUNDS_PER_PROCESS {
            self.round().await;
        }
        self.locks
    }

    /// Acquires a lock in one of several ways, and releases it or drops the attempt.
    async fn round(&self) {
        let ttl = secs(4 + self.random.below(30));
        let name = key(&format!("k{}", self.random.below(KEYS)));
        let lock = self.locks.lock(name).ttl(ttl).wait(secs(1 + self.random.below(20)));
        match self.random.below(5) {
            0 => drop(lock.run(async |lease| self.hold(&lease).await).await),
            1 => drop(timeout(millis(self.random.below(3_000)), lock.acquire()).await),
            2 => {
                let run = lock.run(async |lease| self.hold(&lease).await);
                drop(timeout(millis(self.random.below(6_000)), run).await);
            }
            choice => {
                let renew = if choice == 3 { Renew::Auto } else { Renew::Never };
                let Ok(guard) = lock.renew(renew).acquire().await else { return };
                self.hold(&guard).await;
                if self.random.is_one_in(2) {
                    drop(guard.release().await);
                }
            }
        }
    }

    /// Records a hold that lasts while the lease is valid, for a random time at most.
    async fn hold(&self, lease: &Lease) {
        let (entered, key) = (self.clock.now(), lease.key().clone());
        let Ok(fence) = lease.fence() else { return };
        let mut hold = Hold { process: self, key: key.clone(), fence, last: entered };
        // No process crashes here, so the end of the lease does not matter.
        let (mode, requested, until) = (Mode::Exclusive, entered, entered);
        self.record(entered, Event::Entered { key, fence, mode, requested, until });
        for _ in 0..self.random.below(20) {
            sleep(millis(self.random.below(1_000))).await;
            let now = self.clock.now();
            if !lease.is_valid() {
                break;
            }
            hold.last = now;
        }
    }

    fn record(&self, at: BootInstant, event: Event) {
        self.records.send(Record { process: self.number, at, event }).unwrap();
    }
}

/// Records the end of a hold, even if its task is cancelled.
struct Hold<'a> {
    process: &'a Process,
    key: LockKey,
    fence: Fence,
    last: BootInstant,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let (key, fence) = (self.key.clone(), self.fence);
        self.process.record(self.last, Event::Left { key, fence });
    }
}

/// Runs all processes, and asserts that they leave no lock behind.
async fn run(seed: u64) -> (History, UnreliableStore) {
    let (world, random) = (World::new(), Random::new(seed));
    let store = world.others.clone();
    let unreliable = UnreliableStore {
        store,
        random: random.clone(),
        lost: Arc::default(),
        late: Arc::default(),
    };
    let (records, mut recorded) = unbounded_channel();
    let mut processes = JoinSet::new();
    for number in 0..PROCESSES {
        let builder = LockManager::builder(unreliable.clone()).request_timeout(REQUEST_TIMEOUT);
        let (clock, number) = (world.clock.shared(), Incarnation(number));
        let (locks, random, records) =
            (builder.clock(clock.clone()).build(), random.clone(), records.clone());
        processes.spawn(Process { number, locks, clock, random, records }.run());
    }
    drop(records);
    for locks in processes.join_all().await {
        drained(&locks).await;
    }
    // Messages in flight arrive.
    sleep(MAX_LATENCY * 2).await;
    for number in 0..KEYS {
        assert!(!world.is_locked(&format!("k{number}")).await, "seed {seed} left a lock behind");
    }
    let mut all = Vec::new();
    while let Some(record) = recorded.recv().await {
        all.push(record);
    }
    (History::new(all), unreliable)
}

#[tokio::test(start_paused = true)]
async fn on_an_unreliable_network_locks_exclude_and_no_lock_is_left_behind() {
    for seed in 0..30 {
        let (history, store) = run(seed).await;
        let flaws: Vec<_> = history.flaws().iter().map(Flaw::to_string).collect();
        assert!(flaws.is_empty(), "seed {seed}: {flaws:#?}");
        let (lost, late) = (store.lost.load(Ordering::SeqCst), store.late.load(Ordering::SeqCst));
        let holds = history.entries().len();
        assert!(lost > 100 && late > 100 && holds > 50, "{lost} lost, {late} late, {holds} holds");
    }
}
