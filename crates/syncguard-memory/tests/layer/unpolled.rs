//! Futures that are polled once and then left alone.

use std::pin::{Pin, pin};

use syncguard_core::{
    Error, ErrorKind, LockBuilder, LockGuard, LockManager, Operation, Retry,
    backend::LockBackend,
    contract::{Fault, Gate},
};
use syncguard_memory::MemoryBackend;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    LONG, World, drained, error_of, key, poll_once,
    store::RecordingStore,
    time::{TICK, millis, secs},
};

/// How long a head may be left unpolled after it was woken before it loses its turn.
const HEAD_TIMEOUT: std::time::Duration = millis(250);

fn waiting_lock(locks: &LockManager) -> LockBuilder {
    locks.lock("k").wait(LONG).retry(Retry::fixed(LONG))
}

fn waiting_reader(locks: &LockManager) -> LockBuilder {
    waiting_lock(locks).shared().ttl(LONG)
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_left_unpolled_loses_its_turn_and_is_next_when_it_is_polled_again() {
    let (world, locks) = (World::new(), World::locks);
    let locks = locks(&world);
    let held = world.hold_elsewhere("k", LONG).await;
    let mut head = pin!(waiting_lock(&locks).acquire());
    poll_once(head.as_mut()).await;
    let next = tokio::spawn(waiting_lock(&locks).acquire());
    yield_now().await;
    let last = tokio::spawn(waiting_lock(&locks).acquire());
    sleep(secs(100)).await;
    assert_eq!(world.sent(Operation::Acquire).len(), 2, "the head sends requests for all");

    let released = world.clock.elapsed();
    world.release_elsewhere(&held).await;
    let guard = next.await.unwrap().unwrap();
    let waited = world.clock.elapsed() - released;
    assert!(waited <= HEAD_TIMEOUT + TICK, "{waited:?}");
    poll_once(head.as_mut()).await;
    guard.release().await.unwrap();
    head.await.unwrap().release().await.unwrap();
    last.await.unwrap().unwrap().release().await.unwrap();
    drained(&locks).await;
    assert_eq!(world.store.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn heads_that_are_left_unpolled_lose_their_turn_one_after_the_other() {
    let world = World::new();
    let locks = world.locks();
    let held = world.hold_elsewhere("k", LONG).await;
    let mut left = Vec::new();
    for _ in 0..5_u32 {
        let mut head = Box::pin(waiting_lock(&locks).acquire());
        poll_once(head.as_mut()).await;
        left.push(head);
    }
    let next = tokio::spawn(waiting_lock(&locks).acquire());
    yield_now().await;
    let released = world.clock.elapsed();
    world.release_elsewhere(&held).await;
    next.await.unwrap().unwrap().release().await.unwrap();
    let waited = world.clock.elapsed() - released;
    assert!(waited <= (HEAD_TIMEOUT + TICK) * 5, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_grant_to_a_head_that_is_left_unpolled_goes_to_the_next() {
    let (world, gate) = (World::new(), Gate::new());
    let locks = world.locks();
    world.plan(Operation::Acquire, &Fault::ReplyDelayed(gate.clone()), 1);
    let mut head = pin!(waiting_lock(&locks).acquire());
    poll_once(head.as_mut()).await;
    gate.reached().await;
    assert!(world.is_locked("k").await, "it was granted");
    let next = tokio::spawn(waiting_lock(&locks).acquire());
    sleep(secs(1)).await;
    gate.open();
    let guard = next.await.unwrap().unwrap();
    assert!(world.clock.elapsed() <= secs(1) + HEAD_TIMEOUT + TICK, "{:?}", world.clock.elapsed());
    guard.release().await.unwrap();
    head.await.unwrap().release().await.unwrap();
}

type Acquiring = Pin<Box<dyn Future<Output = Result<LockGuard, Error>> + Send>>;

/// A reader that waited beside the head, and was granted the key while it was left unpolled. When
/// the two others have released the key, it is the only one that holds it.
struct UnpolledReader {
    world: World,
    locks: LockManager,
    reader: Acquiring,
    /// Opens for its reply.
    gate: Gate,
    others: Vec<LockGuard>,
}

impl UnpolledReader {
    async fn new() -> Self {
        let (world, [head_gate, gate]) = (World::new(), [Gate::new(), Gate::new()]);
        let locks = world.locks();
        let mut others = Vec::new();
        // Two grants in a row admit one more reader.
        for _ in 0..2 {
            others.push(waiting_reader(&locks).acquire().await.unwrap());
        }
        world.plan(Operation::Acquire, &Fault::ReplyDelayed(head_gate.clone()), 1);
        world.plan(Operation::Acquire, &Fault::ReplyDelayed(gate.clone()), 1);
        let head = tokio::spawn(waiting_reader(&locks).acquire());
        head_gate.reached().await;
        let mut reader: Acquiring = Box::pin(waiting_reader(&locks).acquire());
        poll_once(reader.as_mut()).await;
        gate.reached().await;
        head_gate.open();
        others.push(head.await.unwrap().unwrap());
        Self { world, locks, reader, gate, others }
    }

    async fn release_others(&mut self) {
        for guard in self.others.drain(..) {
            guard.release().await.unwrap();
        }
        assert!(self.world.is_locked("k").await, "it was granted the key");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_to_a_reader_beside_the_head_that_is_left_unpolled_goes_to_the_next() {
    let mut unpolled = UnpolledReader::new().await;
    let writer = tokio::spawn(waiting_lock(&unpolled.locks).acquire());
    yield_now().await;
    unpolled.release_others().await;
    unpolled.gate.open();
    let guard = timeout(secs(60), writer).await.unwrap().unwrap().unwrap();
    poll_once(unpolled.reader.as_mut()).await;
    guard.release().await.unwrap();
    unpolled.reader.await.unwrap().release().await.unwrap();
    drained(&unpolled.locks).await;
    assert_eq!(unpolled.world.store.subscriptions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_left_unpolled_when_no_one_waited_does_not_keep_the_key_from_the_next() {
    let mut unpolled = UnpolledReader::new().await;
    unpolled.gate.open();
    unpolled.release_others().await;
    sleep(secs(60)).await;
    assert!(unpolled.world.is_locked("k").await, "no one else of the process needs the key");
    let writer = waiting_lock(&unpolled.locks).acquire();
    timeout(secs(60), writer).await.unwrap().unwrap().release().await.unwrap();
    unpolled.reader.await.unwrap().release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_times_out_behind_others_in_the_queue_gets_no_holder() {
    let world = World::new();
    let locks = world.locks();
    world.store.delay(Operation::Acquire, secs(5));
    let mut head = pin!(waiting_lock(&locks).acquire());
    poll_once(head.as_mut()).await;
    let result = locks.lock("k").wait(millis(100)).acquire().await;
    let error = error_of(result, ErrorKind::AcquisitionTimeout);
    assert!(error.holder().is_none());
    let text = error.to_string();
    assert!(text.contains("timed out") && text.contains("ahead in the queue"), "{text}");
    assert!(!text.contains("held"), "{text}");
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// In real time, because the paused clock of a runtime that is not driven does not advance.
#[test]
fn waiters_on_a_runtime_that_is_not_driven_do_not_keep_the_key_from_others() {
    let (idle, live) = (runtime(), runtime());
    let store = RecordingStore::new(MemoryBackend::new());
    let locks = LockManager::new(store.clone());
    let held = live.block_on(locks.lock("k").acquire()).unwrap();
    idle.block_on(async {
        for _ in 0..3 {
            tokio::spawn(waiting_lock(&locks).acquire());
            yield_now().await;
        }
        while store.subscriptions() == 0 {
            yield_now().await;
        }
    });
    live.block_on(async {
        let next = tokio::spawn(waiting_lock(&locks).acquire());
        yield_now().await;
        held.release().await.unwrap();
        let guard = next.await.unwrap().unwrap();
        assert_eq!(guard.fence().unwrap().number(), 2, "those before it were not granted the lock");
        guard.release().await.unwrap();
    });
    drop(idle);
    live.block_on(async {
        drained(&locks).await;
        assert!(!store.is_locked(&key("k")).await.unwrap());
    });
    assert_eq!(store.subscriptions(), 0);
}
