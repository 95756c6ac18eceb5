//! Waiting for a holder that releases without a notification.

use std::future::pending;

use syncguard_core::{
    Error, ErrorKind, LockId, LockKey, LockManager, Operation, ReleaseOutcome, Retry, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, LockBackend, LockQuery,
        LockRecord, LockRef,
    },
};
use tokio::time::sleep;

use super::{
    LONG, World, error_of,
    store::RecordingStore,
    time::{TICK, assert_at, millis, secs},
};

/// A store whose holders are all clients that release without a notification.
struct SilentHolders<B>(B);

impl<B: LockBackend> LockBackend for SilentHolders<B> {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        Ok(match self.0.acquire(request).await? {
            AcquireOutcome::Contended { holder: Some(holder) } => {
                AcquireOutcome::Contended { holder: Some(holder.silent()) }
            }
            outcome => outcome,
        })
    }

    async fn extend(&self, lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        self.0.extend(lock, ttl).await
    }

    async fn release(&self, lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        self.0.release(lock).await
    }

    async fn lookup(&self, query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        self.0.lookup(query).await
    }

    async fn abandon(&self, lock_id: LockId, key: &LockKey) -> Result<(), Error> {
        self.0.abandon(lock_id, key).await
    }

    async fn released(&self, _: &LockKey) {
        pending().await
    }
}

fn locks_with_silent_holders(world: &World) -> LockManager {
    let store = SilentHolders(RecordingStore::clone(&world.store));
    LockManager::builder(store).clock(world.clock.shared()).build()
}

#[tokio::test(start_paused = true)]
async fn a_waiter_polls_a_silent_holder_at_a_short_and_steady_interval() {
    let world = World::new();
    let held = world.hold_elsewhere("k", LONG).await;
    let waiter = tokio::spawn(locks_with_silent_holders(&world).lock("k").wait(LONG).acquire());
    sleep(secs(100)).await;
    let sent = world.sent(Operation::Acquire);
    for pair in sent[1..].windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap <= millis(30) + TICK, "{gap:?}");
    }
    assert!(sent.len() < 10_000, "{} attempts in 100 s", sent.len());
    let released = world.clock.elapsed();
    world.release_elsewhere(&held).await;
    waiter.await.unwrap().unwrap().release().await.unwrap();
    assert!(world.clock.elapsed() - released <= millis(30) + TICK);
}

#[tokio::test(start_paused = true)]
async fn polling_a_silent_holder_uses_up_no_retries() {
    let world = World::new();
    world.hold_elsewhere("k", LONG).await;
    let retry = Retry::fixed(secs(10)).limit(3);
    let result =
        locks_with_silent_holders(&world).lock("k").wait(LONG).retry(retry).acquire().await;
    error_of(result, ErrorKind::AcquisitionTimeout);
    assert_at(world.clock.elapsed(), secs(30));
    assert!(world.sent(Operation::Acquire).len() > 900, "the holder was polled");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_notifies_is_not_polled() {
    let world = World::new();
    world.hold_elsewhere("k", LONG).await;
    let retry = Retry::fixed(secs(10)).limit(3);
    let result = world.locks().lock("k").wait(LONG).retry(retry).acquire().await;
    error_of(result, ErrorKind::AcquisitionTimeout);
    assert_eq!(world.sent(Operation::Acquire).len(), 2 + 3);
}
