//! Clean-ups after callers that were dropped or cancelled.

use std::sync::{Arc, Mutex};

use syncguard_core::{
    Error, ErrorKind, LockManager, ManualClock, Operation, Retry, TryAcquireOutcome,
    backend::LockBackend,
    contract::{Fault, Faulty, Gate},
};
use syncguard_memory::MemoryBackend;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{
    LONG, World, drained, error_of, key,
    time::{TICK, assert_all_at, secs},
};

/// More requests than any test sends.
const ALL: usize = 1_000;

type Reports = Arc<Mutex<Vec<(ErrorKind, Option<Operation>)>>>;

/// Returns a callback that records the reported errors.
fn record_into(reports: &Reports) -> impl Fn(&Error) + Send + Sync + use<> {
    let reports = reports.clone();
    move |error| reports.lock().unwrap().push((error.kind(), error.operation()))
}

#[tokio::test(start_paused = true)]
async fn a_release_is_retried_after_its_callers_token_was_cancelled() {
    let world = World::new();
    let (locks, token) = (world.locks(), CancellationToken::new());
    world.plan(Operation::Release, &Fault::RequestLost, 3);
    let run = locks.lock("k").cancel_on(token.clone()).run(async |_| {
        token.cancel();
        std::future::pending::<()>().await;
    });
    error_of(run.await, ErrorKind::Aborted);
    assert!(world.is_locked("k").await);
    drained(&locks).await;
    world.assert_planned(0);
    assert!(!world.is_locked("k").await);
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_grant_is_abandoned_after_its_callers_token_was_cancelled() {
    let (world, gate) = (World::new(), Gate::new());
    let (locks, token) = (world.locks(), CancellationToken::new());
    world.plan(Operation::Acquire, &Fault::ReplyDelayed(gate.clone()), 1);
    world.plan(Operation::Abandon, &Fault::RequestLost, 3);
    let attempt = locks.lock("k").cancel_on(token.clone()).try_acquire();
    let (attempt, ()) = tokio::join!(attempt, async {
        gate.reached().await;
        token.cancel();
    });
    error_of(attempt, ErrorKind::Aborted);
    assert!(world.is_locked("k").await, "it was granted");
    // Both replies are lost, so the caller does not know of the grant.
    world.plan(Operation::Acquire, &Fault::RequestLost, ALL);
    tokio::time::sleep(secs(11)).await;
    drained(&locks).await;
    assert_eq!(world.sent(Operation::Acquire).len(), 2);
    assert_eq!(world.sent(Operation::Abandon).len(), 4);
    assert!(!world.is_locked("k").await);
}

/// Each attempt fails at once, and so does its repetition; the abandon of its id succeeds.
#[tokio::test(start_paused = true)]
async fn an_abandon_does_not_cut_the_delay_after_an_error_short() {
    let world = World::new();
    world.plan(Operation::Acquire, &Fault::RequestLost, 4);
    let lock = world.locks().lock("k").wait(LONG).retry(Retry::fixed(secs(1)));
    let _guard = lock.acquire().await.unwrap();
    world.assert_planned(0);
    assert_all_at(&world.sent(Operation::Acquire), &[0, 0, 1, 1, 2].map(secs));
    assert_all_at(&world.sent(Operation::Abandon), &[0, 1].map(secs));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_never_succeeds_is_retried_for_the_ttl_and_a_second_and_reported_once() {
    let (world, reports) = (World::new(), Reports::default());
    let locks = world.builder().on_release_error(record_into(&reports)).build();
    world.plan(Operation::Release, &Fault::NotSent, ALL);
    drop(locks.lock("k").ttl(secs(30)).acquire().await.unwrap());
    drained(&locks).await;
    let (sent, due) = (world.sent(Operation::Release), secs(31));
    world.assert_planned(ALL - sent.len());
    let last = *sent.last().unwrap();
    assert!(due <= last && last <= due + secs(2) + TICK, "{last:?}");
    assert_eq!(
        *reports.lock().unwrap(),
        [(ErrorKind::ServiceUnavailable, Some(Operation::Release))]
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_is_retried_for_the_longest_ttl_that_was_requested() {
    let world = World::new();
    let locks = world.locks();
    world.plan(Operation::Release, &Fault::NotSent, ALL);
    let guard = locks.lock("k").ttl(secs(10)).acquire().await.unwrap();
    guard.extend(secs(90)).await.unwrap();
    guard.extend(secs(20)).await.unwrap();
    drop(guard);
    drained(&locks).await;
    let (last, due) = (*world.sent(Operation::Release).last().unwrap(), secs(91));
    assert!(due <= last && last <= due + secs(2) + TICK, "{last:?}");
}

/// A client whose runtime is shut down while its first request is in flight.
struct Client {
    runtime: Option<Runtime>,
    store: MemoryBackend,
    clock: Arc<ManualClock>,
    gate: Gate,
    locks: LockManager,
    reports: Reports,
}

impl Client {
    fn new(fault: fn(Gate) -> Fault) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Arc::new(ManualClock::default());
        let (store, gate) = (MemoryBackend::with_clock(clock.clone()), Gate::new());
        let (faults, reports) = (Faulty::new(store.clone()), Reports::default());
        faults.plan(Operation::Acquire, fault(gate.clone()));
        let builder = LockManager::builder(faults).clock(clock.clone());
        let locks = builder.on_release_error(record_into(&reports)).build();
        Self { runtime: Some(runtime), store, clock, gate, locks, reports }
    }

    fn attempt(&self) -> impl Future<Output = Result<TryAcquireOutcome, Error>> + Send + use<> {
        self.locks.lock("k").ttl(secs(30)).try_acquire()
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    fn shut_down(&mut self) {
        drop(self.runtime.take());
    }

    fn is_locked(&self) -> bool {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.store.is_locked(&key("k"))).unwrap()
    }

    /// Asserts that the failure was reported once, and that the grant expires.
    fn assert_reported_and_expired_in_time(&self) {
        assert_eq!(*self.reports.lock().unwrap(), [(ErrorKind::Aborted, Some(Operation::Abandon))]);
        assert!(self.is_locked(), "it was granted");
        self.clock.advance(secs(31));
        assert!(!self.is_locked());
    }
}

#[test]
fn an_attempt_that_ends_with_its_runtime_is_reported_and_its_grant_expires() {
    let mut client = Client::new(Fault::ReplyDelayed);
    client.run(async {
        tokio::spawn(client.attempt());
        client.gate.reached().await;
    });
    client.shut_down();
    client.assert_reported_and_expired_in_time();
}

#[test]
fn an_attempt_that_is_dropped_after_its_runtime_is_reported_and_its_grant_expires() {
    let mut client = Client::new(Fault::ReplyDelayed);
    let mut attempt = Box::pin(client.attempt());
    client.run(async {
        tokio::select! {
            _ = &mut attempt => panic!("the gate is closed"),
            () = client.gate.reached() => {}
        }
    });
    client.shut_down();
    assert_eq!(*client.reports.lock().unwrap(), []);
    drop(attempt);
    client.assert_reported_and_expired_in_time();
}
