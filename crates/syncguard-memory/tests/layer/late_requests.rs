//! Requests that reach the store after their callers stopped waiting for them.

use syncguard_core::{
    Error, ErrorKind, LockId, LockKey, LockManager, Loss, Operation, ReleaseOutcome, Renew,
    TryAcquireOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, LockBackend, LockQuery,
        LockRecord, LockRef,
    },
    contract::{Fault, Gate},
};
use syncguard_memory::MemoryBackend;
use tokio::time::sleep;

use super::{
    World, drained, error_of, key,
    time::{assert_all_at, millis, secs},
};

/// Returns locks whose first acquire is delayed until the gate opens. It is repeated before that.
fn delayed(world: &World) -> (LockManager, Gate) {
    let gate = Gate::new();
    world.plan(Operation::Acquire, &Fault::RequestDelayed(gate.clone()), 1);
    (world.builder().request_timeout(millis(250)).build(), gate)
}

/// Lets the delayed request arrive, and asserts that it is not granted.
async fn assert_rejected(world: &World, gate: &Gate) {
    assert!(!world.is_locked("k").await);
    gate.open();
    sleep(secs(1)).await;
    assert!(!world.is_locked("k").await, "the late request was granted");
}

#[tokio::test(start_paused = true)]
async fn a_late_request_is_rejected_after_its_repeat_met_another_holder() {
    let world = World::new();
    let holder = world.hold_elsewhere("k", secs(600)).await;
    let (locks, gate) = delayed(&world);
    let attempt = locks.lock("k").ttl(secs(30)).try_acquire().await.unwrap();
    assert!(matches!(attempt, TryAcquireOutcome::Contended(_)), "{attempt:?}");
    gate.reached().await;
    drained(&locks).await;
    world.release_elsewhere(&holder).await;
    assert_rejected(&world, &gate).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_request_is_rejected_after_its_grant_was_released_by_force() {
    let world = World::new();
    let (locks, gate) = delayed(&world);
    let guard = locks.lock("k").ttl(secs(30)).acquire().await.unwrap();
    gate.reached().await;
    world.others.force_release(&key("k")).await.unwrap().unwrap();
    error_of(guard.extend(secs(30)).await, ErrorKind::Lost);
    assert_eq!(guard.loss(), Some(Loss::NotHeld));
    drop(guard);
    drained(&locks).await;
    assert_rejected(&world, &gate).await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_request_could_not_be_repeated_is_abandoned() {
    let world = World::new();
    let locks = world.locks();
    world.plan(Operation::Acquire, &Fault::ReplyLost, 1);
    world.plan(Operation::Acquire, &Fault::NotSent, 1);
    let attempt = locks.lock("k").ttl(secs(30)).try_acquire().await;
    // With the grace of a second.
    assert_eq!(error_of(attempt, ErrorKind::Ambiguous).free_within(), Some(secs(31)));
    drained(&locks).await;
    assert_eq!(world.sent(Operation::Abandon).len(), 1);
    assert!(!world.is_locked("k").await);
}

/// A store whose replies to acquires cannot be read.
struct UnreadableReplies(MemoryBackend);

impl LockBackend for UnreadableReplies {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        let _unread = self.0.acquire(request).await?;
        Err(Error::new(ErrorKind::Internal).with_operation(Operation::Acquire))
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
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_keeps_its_kind_and_the_grant_is_abandoned() {
    let world = World::new();
    let locks = LockManager::new(UnreadableReplies(world.others.clone()));
    error_of(locks.lock("k").try_acquire().await, ErrorKind::Internal);
    drained(&locks).await;
    assert!(!world.is_locked("k").await);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_arrives_after_its_deadline_is_released_and_not_returned() {
    let world = World::new();
    world.store.delay(Operation::Acquire, secs(29));
    let locks = world.builder().request_timeout(secs(60)).build();
    let attempt = locks.lock("k").ttl(secs(30)).try_acquire().await;
    assert_eq!(error_of(attempt, ErrorKind::Ambiguous).free_within(), Some(secs(31)));
    drained(&locks).await;
    assert_eq!(world.sent(Operation::Release).len(), 1);
    assert!(!world.is_locked("k").await);
}

/// A shorter ttl that the store may still apply bounds every later deadline.
#[tokio::test(start_paused = true)]
async fn an_extend_without_a_reply_bounds_later_deadlines_and_one_that_was_not_sent_does_not() {
    let (full, bounded) = (millis(28_500), millis(9_500));
    let faults =
        [(Fault::NotSent, full), (Fault::RequestLost, bounded), (Fault::ReplyLost, bounded)];
    for (fault, left) in faults {
        let world = World::new();
        let guard = world.locks().lock("k").ttl(secs(30)).acquire().await.unwrap();
        world.plan(Operation::Extend, &fault, 1);
        assert!(guard.extend(secs(10)).await.is_err(), "{fault:?}");
        guard.extend(secs(30)).await.unwrap();
        assert_eq!(guard.remaining(), left, "{fault:?}");
    }
}

/// The last extend, which ends the lock after `min_hold`, must be the last to arrive.
#[tokio::test(start_paused = true)]
async fn a_release_within_min_hold_follows_an_extend_that_is_in_flight() {
    let (world, gate) = (World::new(), Gate::new());
    let lock = world.locks().lock("k").ttl(secs(30)).min_hold(secs(10));
    let guard = lock.acquire().await.unwrap();
    world.plan(Operation::Extend, &Fault::RequestDelayed(gate.clone()), 1);
    let lease = guard.lease();
    let extend = tokio::spawn(async move { lease.extend(secs(600)).await });
    gate.reached().await;
    let release = tokio::spawn(guard.release());
    sleep(secs(1)).await;
    assert!(!release.is_finished());
    assert_eq!(world.sent(Operation::Extend).len(), 1, "the release waits");
    gate.open();
    release.await.unwrap().unwrap();
    error_of(extend.await.unwrap(), ErrorKind::Lost);
    assert_eq!(world.sent(Operation::Extend).len(), 2);
    assert!(world.is_locked("k").await);
    // With the grace of a second.
    sleep(secs(11)).await;
    assert!(!world.is_locked("k").await);
}

/// The release ends the renewals, and not the one that was sent.
#[tokio::test(start_paused = true)]
async fn a_release_within_min_hold_follows_a_renewal_that_is_in_flight() {
    let (world, gate) = (World::new(), Gate::new());
    world.plan(Operation::Extend, &Fault::RequestDelayed(gate.clone()), 1);
    let lock = world.locks().lock("k").ttl(secs(600)).min_hold(secs(10));
    let guard = lock.renew(Renew::Every(secs(1))).acquire().await.unwrap();
    gate.reached().await;
    let release = tokio::spawn(guard.release());
    sleep(secs(1)).await;
    assert_eq!(world.sent(Operation::Extend).len(), 1, "the release waits");
    gate.open();
    release.await.unwrap().unwrap();
    // With the grace of a second.
    sleep(secs(11)).await;
    assert!(!world.is_locked("k").await);
}

/// A grant whose first request may still arrive is abandoned after `min_hold`, and kept until then.
#[tokio::test(start_paused = true)]
async fn a_grant_that_was_requested_twice_is_abandoned_after_min_hold() {
    let world = World::new();
    world.plan(Operation::Acquire, &Fault::ReplyLost, 1);
    let locks = world.locks();
    let lock = locks.lock("k").ttl(secs(30)).min_hold(secs(10));
    lock.acquire().await.unwrap().release().await.unwrap();
    drained(&locks).await;
    assert_all_at(&world.sent(Operation::Abandon), &[secs(10)]);
}
