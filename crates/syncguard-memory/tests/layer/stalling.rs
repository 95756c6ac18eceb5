//! A store that stalls and then has more pending extends than it can serve at once.

use std::{sync::Arc, time::Duration};

use syncguard_core::{
    Error, LockGuard, LockId, LockKey, LockManager, Operation, ReleaseOutcome, Renew, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, LockBackend, LockQuery,
        LockRecord, LockRef,
    },
    contract::Fault,
};
use syncguard_memory::MemoryBackend;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

use super::{
    World,
    time::{TICK, millis, secs},
};

const GUARDS: usize = 4_000;

/// When the stall of the store begins and ends.
const STALL: (Duration, Duration) = (secs(9), secs(21));

/// How many extends run at the same time, and how long each takes. The store needs five seconds to
/// extend all leases once.
const CONNECTIONS: usize = 10;
const EXTEND_TIME: Duration = Duration::from_micros(12_500);

/// A store behind a pool of connections.
struct Pooled {
    store: MemoryBackend,
    start: Instant,
    connections: Arc<Semaphore>,
}

impl LockBackend for Pooled {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        self.store.acquire(request).await
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        let _connection = self.connections.acquire().await.unwrap();
        if (STALL.0..STALL.1).contains(&self.start.elapsed()) {
            sleep_until(self.start + STALL.1).await;
        }
        sleep(EXTEND_TIME).await;
        self.store.extend(lock, ttl).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        self.store.release(lock).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.store.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.store.abandon(lock_id, key).await
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_of_twelve_seconds_no_lease_of_thirty_is_lost() {
    let world = World::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let store = Pooled { store: world.others.clone(), start: Instant::now(), connections };
    let locks = LockManager::builder(store).clock(world.clock.shared()).build();
    let mut guards: Vec<LockGuard> = Vec::new();
    for number in 0..GUARDS {
        let lock = locks.lock(format!("k{number}")).ttl(secs(30)).renew(Renew::Auto);
        guards.push(lock.acquire().await.unwrap());
    }
    sleep(secs(60)).await;
    let lost = guards.iter().filter(|guard| !guard.is_valid()).count();
    assert_eq!(lost, 0, "of {GUARDS}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_was_not_applied_is_retried_within_250_ms() {
    let world = World::new();
    world.plan(Operation::Extend, &Fault::NotSent, 20);
    let lock = world.locks().lock("k").ttl(secs(30)).renew(Renew::Every(secs(10)));
    let guard = lock.acquire().await.unwrap();
    sleep(secs(16)).await;
    world.assert_planned(0);
    let sent = world.sent(Operation::Extend);
    assert_eq!(sent.len(), 21);
    for pair in sent.windows(2) {
        assert!(pair[1] - pair[0] <= millis(250) + TICK, "{pair:?}");
    }
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn the_renewal_of_a_short_lease_is_retried_within_a_tenth_of_it() {
    let world = World::new();
    world.plan(Operation::Extend, &Fault::NotSent, 3);
    let lock = world.locks().lock("k").ttl(millis(600)).renew(Renew::Auto);
    let guard = lock.acquire().await.unwrap();
    sleep(millis(500)).await;
    world.assert_planned(0);
    for pair in world.sent(Operation::Extend)[..4].windows(2) {
        assert!(pair[1] - pair[0] <= millis(60) + TICK, "{pair:?}");
    }
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn the_next_renewal_is_an_interval_after_one_that_took_many_attempts() {
    let world = World::new();
    world.plan(Operation::Extend, &Fault::NotSent, 40);
    let lock = world.locks().lock("k").ttl(secs(30)).renew(Renew::Every(secs(10)));
    let _guard = lock.acquire().await.unwrap();
    sleep(secs(40)).await;
    world.assert_planned(0);
    let sent = world.sent(Operation::Extend);
    let gap = sent[41] - sent[40];
    assert!(secs(10) <= gap && gap <= secs(10) + TICK, "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_was_not_applied_is_retried_within_the_wait() {
    let world = World::new();
    world.plan(Operation::Acquire, &Fault::NotSent, 5);
    let guard = world.locks().lock("k").wait(secs(30)).acquire().await.unwrap();
    world.assert_planned(0);
    assert_eq!(guard.fence().unwrap().number(), 1);
    assert_eq!(world.sent(Operation::Acquire).len(), 6, "each attempt sent one request");
    assert_eq!(world.sent(Operation::Abandon), [], "there is nothing to abandon");
}
