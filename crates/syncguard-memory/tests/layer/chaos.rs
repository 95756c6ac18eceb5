//! Many processes, each in a task, on a network that delays and loses whatever it likes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use syncguard_core::{
    AcquireOutcome, AcquireRequest, BootInstant, Capabilities, Clock, Error, ErrorKind,
    ExtendOutcome, Fence, Lease, LockBackend, LockId, LockKey, LockManager, LockQuery, LockRecord,
    LockRef, Operation, ReleaseOutcome, Renew, Ttl,
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
const ROUNDS: usize = 40;

/// How long a request may take before it counts as lost.
const PATIENCE: Duration = secs(2);

/// The longest that anything is on its way, one way.
const LONGEST: Duration = secs(6);

/// Draws numbers, the same ones for the same seed (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
struct Dice(Arc<AtomicU64>);

impl Dice {
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

    fn one_in(&self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    /// Draws a time on the way: short as a rule, now and then longer than anybody waits.
    fn way(&self) -> Duration {
        let most = if self.one_in(10) { LONGEST } else { millis(20) };
        millis(self.below(u64::try_from(most.as_millis()).unwrap()))
    }
}

/// A store behind a bad network. What is on its way goes on without its sender.
#[derive(Clone)]
struct Far {
    store: MemoryBackend,
    dice: Dice,
    lost: Arc<AtomicUsize>,
    late: Arc<AtomicUsize>,
}

impl Far {
    async fn carry<T, F>(
        &self,
        operation: Operation,
        request: impl FnOnce(MemoryBackend) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (there, back) = (self.dice.way(), self.dice.way());
        let (request_lost, reply_lost) = (self.dice.one_in(12), self.dice.one_in(12));
        if there + back > PATIENCE {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
        let request = request(self.store.clone());
        let travel = tokio::spawn(async move {
            sleep(there).await;
            if request_lost {
                return None;
            }
            let reply = request.await;
            sleep(back).await;
            Some(reply).filter(|_| !reply_lost)
        });
        match travel.await.unwrap() {
            Some(reply) => reply,
            None => {
                self.lost.fetch_add(1, Ordering::SeqCst);
                Err(Error::new(ErrorKind::NetworkTimeout, operation))
            }
        }
    }
}

impl LockBackend for Far {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let request = request.clone();
        let acquire = |store: MemoryBackend| async move { store.acquire(&request).await };
        self.carry(Operation::Acquire, acquire).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let lock = lock.clone();
        let extend = |store: MemoryBackend| async move { store.extend(&lock, ttl).await };
        self.carry(Operation::Extend, extend).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        let lock = lock.clone();
        let release = |store: MemoryBackend| async move { store.release(&lock).await };
        self.carry(Operation::Release, release).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.store.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        let key = key.clone();
        let abandon = |store: MemoryBackend| async move { store.abandon(lock_id, &key).await };
        self.carry(Operation::Abandon, abandon).await
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
    dice: Dice,
    records: UnboundedSender<Record>,
}

impl Process {
    async fn live(self) -> LockManager {
        for _ in 0..ROUNDS {
            self.round().await;
        }
        self.locks
    }

    /// Takes a lock in one way or another, and gives it back or goes away.
    async fn round(&self) {
        let ttl = secs(4 + self.dice.below(30));
        let name = key(&format!("k{}", self.dice.below(KEYS)));
        let lock = self.locks.lock(name).ttl(ttl).wait(secs(1 + self.dice.below(20)));
        match self.dice.below(5) {
            0 => drop(lock.run(async |lease| self.stay(&lease).await).await),
            1 => drop(timeout(millis(self.dice.below(3_000)), lock.acquire()).await),
            2 => {
                let run = lock.run(async |lease| self.stay(&lease).await);
                drop(timeout(millis(self.dice.below(6_000)), run).await);
            }
            choice => {
                let renew = if choice == 3 { Renew::Auto } else { Renew::Never };
                let Ok(guard) = lock.renew(renew).acquire().await else { return };
                self.stay(&guard).await;
                if self.dice.one_in(2) {
                    drop(guard.release().await);
                }
            }
        }
    }

    /// Records a stay for as long as the lease says that it is held, up to some time.
    async fn stay(&self, lease: &Lease) {
        let (entered, key) = (self.clock.now(), lease.key().clone());
        let Ok(fence) = lease.fence() else { return };
        let mut stay = Stay { process: self, key: key.clone(), fence, last: entered };
        // Nobody dies here, so it makes no difference how long the lease is.
        self.record(entered, Event::Entered { key, fence, until: entered });
        for _ in 0..self.dice.below(20) {
            sleep(millis(self.dice.below(1_000))).await;
            let now = self.clock.now();
            if !lease.is_valid() {
                break;
            }
            stay.last = now;
        }
    }

    fn record(&self, at: BootInstant, event: Event) {
        self.records.send(Record { process: self.number, at, event }).unwrap();
    }
}

/// Records its end even if it is cut off.
struct Stay<'a> {
    process: &'a Process,
    key: LockKey,
    fence: Fence,
    last: BootInstant,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let (key, fence) = (self.key.clone(), self.fence);
        self.process.record(self.last, Event::Left { key, fence });
    }
}

/// Lets all processes live, and proves that nothing is left of them.
async fn live(seed: u64) -> (History, Far) {
    let (world, dice) = (World::new(), Dice::new(seed));
    let store = world.others.clone();
    let far = Far { store, dice: dice.clone(), lost: Arc::default(), late: Arc::default() };
    let (records, mut recorded) = unbounded_channel();
    let mut processes = JoinSet::new();
    for number in 0..PROCESSES {
        let builder = LockManager::builder(far.clone()).request_timeout(PATIENCE);
        let (clock, number) = (world.clock.shared(), Incarnation(number));
        let (locks, dice, records) =
            (builder.clock(clock.clone()).build(), dice.clone(), records.clone());
        processes.spawn(Process { number, locks, clock, dice, records }.live());
    }
    drop(records);
    for locks in processes.join_all().await {
        drained(&locks).await;
    }
    // What is still on its way arrives.
    sleep(LONGEST * 2).await;
    for number in 0..KEYS {
        assert!(!world.is_locked(&format!("k{number}")).await, "seed {seed} left a ghost");
    }
    let mut all = Vec::new();
    while let Some(record) = recorded.recv().await {
        all.push(record);
    }
    (History::new(all), far)
}

#[tokio::test(start_paused = true)]
async fn on_a_bad_network_nobody_meets_in_a_lock_and_no_lock_is_left_behind() {
    for seed in 0..30 {
        let (history, far) = live(seed).await;
        let flaws: Vec<_> = history.flaws().iter().map(Flaw::to_string).collect();
        assert!(flaws.is_empty(), "seed {seed}: {flaws:#?}");
        let (lost, late) = (far.lost.load(Ordering::SeqCst), far.late.load(Ordering::SeqCst));
        let stays = history.entries().len();
        assert!(lost > 100 && late > 100 && stays > 50, "{lost} lost, {late} late, {stays} stays");
    }
}
