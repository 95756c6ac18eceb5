//! Readers, writers and permits: who enters with whom, and who goes first.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use syncguard_core::{
    ErrorKind, LockBuilder, LockId, LockManager, Operation, Retry, TryAcquireOutcome, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, LockRef, Mode},
    contract::{Fault, Gate},
};
use tokio::{
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};

use super::{
    LONG, World, drained, error_of, key, open_gate, poll_once,
    time::{millis, secs},
};

/// The longest time for which the announcement of a writer that is gone keeps readers out.
const ANNOUNCEMENT: Duration = Duration::from_secs(1);

impl World {
    /// Requests the lock in shared mode as another process.
    async fn read_elsewhere(&self) -> Option<LockRef> {
        let (id, ttl) = (LockId::mint().unwrap(), Ttl::new(LONG).unwrap());
        let request = AcquireRequest::new(key("k"), id, ttl).with_mode(Mode::SHARED);
        match self.others.acquire(&request).await.unwrap() {
            AcquireOutcome::Granted(_) => Some(LockRef::new(id, key("k"))),
            AcquireOutcome::Contended { .. } => None,
        }
    }

    /// Returns whether another process can read, and leaves no lock behind.
    async fn is_readable_elsewhere(&self) -> bool {
        let Some(reader) = self.read_elsewhere().await else { return false };
        self.release_elsewhere(&reader).await;
        true
    }
}

/// Waits as long as it takes.
fn patient(lock: LockBuilder) -> LockBuilder {
    lock.wait(LONG).retry(Retry::fixed(LONG)).ttl(LONG)
}

#[tokio::test(start_paused = true)]
async fn all_readers_of_a_process_hold_the_key_at_the_same_time_and_no_writer_beside_them() {
    let (world, inside) = (World::new(), Arc::new(AtomicUsize::new(0)));
    let locks = world.locks();
    let mut readers = JoinSet::new();
    for _ in 0..100 {
        let (lock, inside) = (patient(locks.lock("k").shared()), inside.clone());
        readers.spawn(async move {
            let guard = lock.acquire().await.unwrap();
            inside.fetch_add(1, Ordering::SeqCst);
            sleep(secs(60)).await;
            guard.release().await.unwrap();
        });
    }
    sleep(secs(30)).await;
    assert_eq!(inside.load(Ordering::SeqCst), 100);
    let attempt = locks.lock("k").try_acquire().await.unwrap();
    let TryAcquireOutcome::Contended(Some(holder)) = attempt else { panic!("{attempt:?}") };
    assert_eq!((holder.mode, holder.count), (Mode::SHARED, Some(100)));
    let stats = locks.stats();
    assert_eq!((stats.keys[0].holders, stats.keys[0].readers), (100, 100));
    readers.join_all().await;
    assert!(locks.lock("k").try_acquire().await.unwrap().acquired().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_writer_is_overtaken_by_no_reader_of_its_process() {
    let world = World::new();
    let locks = world.locks();
    let reader = patient(locks.lock("k").shared()).acquire().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for (name, mode) in [("writer", Mode::Exclusive), ("one", Mode::SHARED), ("two", Mode::SHARED)]
    {
        let (lock, order) = (patient(locks.lock("k").mode(mode)), order.clone());
        tasks.spawn(async move {
            let guard = lock.acquire().await.unwrap();
            order.lock().unwrap().push(name);
            sleep(secs(1)).await;
            guard.release().await.unwrap();
        });
        yield_now().await;
    }
    sleep(secs(60)).await;
    assert!(order.lock().unwrap().is_empty(), "the reader still holds the key");
    reader.release().await.unwrap();
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), ["writer", "one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_writer_keeps_the_readers_of_other_processes_out_until_it_was_served() {
    let world = World::new();
    let locks = world.locks();
    let reader = world.read_elsewhere().await.unwrap();
    let lock = patient(locks.lock("k"));
    let writer = tokio::spawn(async move { lock.acquire().await.unwrap() });
    sleep(millis(10)).await;
    // Longer than one announcement, and at all times of its renewals.
    for _ in 0..1_000 {
        assert!(!world.is_readable_elsewhere().await);
        sleep(millis(7)).await;
    }
    world.release_elsewhere(&reader).await;
    writer.await.unwrap().release().await.unwrap();
    assert!(world.is_readable_elsewhere().await);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_gives_up_lets_readers_in_immediately() {
    let world = World::new();
    let locks = world.locks();
    let _reader = world.read_elsewhere().await.unwrap();
    let lock = locks.lock("k").wait(secs(5));
    error_of(lock.acquire().await, ErrorKind::AcquisitionTimeout);
    drained(&locks).await;
    assert!(world.is_readable_elsewhere().await);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_dropped_with_its_request_in_flight_leaves_no_announcement() {
    for fault in [Fault::RequestDelayed, Fault::ReplyDelayed] {
        let world = World::new();
        let locks = world.locks();
        let _reader = world.read_elsewhere().await.unwrap();
        // The first attempt announces nothing, the second one does.
        world.plan(Operation::Acquire, &Fault::ReplyDelayed(open_gate()), 1);
        let gate = Gate::default();
        world.plan(Operation::Acquire, &fault(gate.clone()), 1);
        let wait = patient(locks.lock("k")).acquire();
        assert!(timeout(secs(1), wait).await.is_err(), "it waits for its second reply");
        gate.open();
        drained(&locks).await;
        assert!(world.is_readable_elsewhere().await);
    }
}

/// The head announces its wait with its second attempt, and yields when it would renew that.
#[tokio::test(start_paused = true)]
async fn a_writer_that_yields_to_a_reader_of_its_process_does_not_keep_it_out() {
    let world = World::new();
    let locks = world.locks();
    let reader = world.read_elsewhere().await.unwrap();
    let writer = tokio::spawn(patient(locks.lock("k")).acquire());
    sleep(millis(10)).await;
    assert!(!world.is_readable_elsewhere().await, "it is announced");
    let announced = *world.sent(Operation::Acquire).last().unwrap();
    let guard = patient(locks.lock("k").shared().priority(5)).acquire().await.unwrap();
    assert!(world.clock.elapsed() < announced + ANNOUNCEMENT);
    guard.release().await.unwrap();
    world.release_elsewhere(&reader).await;
    writer.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_left_unpolled_does_not_keep_the_next_reader_out() {
    let world = World::new();
    let locks = world.locks();
    let _reader = world.read_elsewhere().await.unwrap();
    let mut writer = pin!(patient(locks.lock("k")).acquire());
    poll_once(writer.as_mut()).await;
    assert!(!world.is_readable_elsewhere().await, "it is announced");
    let guard = patient(locks.lock("k").shared()).acquire().await.unwrap();
    assert!(world.clock.elapsed() < ANNOUNCEMENT);
    guard.release().await.unwrap();
}

/// The requests are so slow that the announcement of the first writer would end before the second
/// one is renewed, if it did not begin with its first attempt.
#[tokio::test(start_paused = true)]
async fn a_writer_that_gives_up_leaves_its_announcement_to_the_next_writer_of_its_process() {
    let world = World::new();
    let locks = world.locks();
    let _reader = world.read_elsewhere().await.unwrap();
    let writers = [(); 2].map(|()| tokio::spawn(patient(locks.lock("k")).acquire()));
    sleep(millis(200)).await;
    world.store.delay(Operation::Acquire, millis(300));
    for (writer, time) in writers.into_iter().zip([2_000, 0]) {
        assert!(!world.is_readable_elsewhere().await);
        writer.abort();
        assert!(writer.await.unwrap_err().is_cancelled());
        for _ in 0..time / 7 {
            assert!(!world.is_readable_elsewhere().await);
            sleep(millis(7)).await;
        }
    }
    drained(&locks).await;
    assert!(world.is_readable_elsewhere().await);
}

/// The reply to the first announcement arrives after the next announcement was made, or even the
/// request does.
#[tokio::test(start_paused = true)]
async fn a_late_announcement_does_not_take_the_place_of_the_next_one() {
    for fault in [Fault::ReplyDelayed, Fault::RequestDelayed] {
        let (world, gate) = (World::new(), Gate::default());
        let locks = world.locks();
        let _reader = world.read_elsewhere().await.unwrap();
        let own_reader = patient(locks.lock("k").shared()).acquire().await.unwrap();
        // The first attempt announces nothing, the second one does.
        world.plan(Operation::Acquire, &Fault::ReplyDelayed(open_gate()), 1);
        world.plan(Operation::Acquire, &fault(gate.clone()), 1);
        let mut writer = Box::pin(patient(locks.lock("k")).acquire());
        assert!(timeout(millis(10), writer.as_mut()).await.is_err());
        gate.reached().await;
        let next = tokio::spawn(patient(locks.lock("k")).acquire());
        yield_now().await;
        // Wakes the head, which is not polled and loses its turn.
        let sent = world.sent(Operation::Acquire).len();
        own_reader.release().await.unwrap();
        sleep(millis(300)).await;
        assert_eq!(world.sent(Operation::Acquire).len(), sent + 1, "the next one has the turn");
        next.abort();
        assert!(next.await.unwrap_err().is_cancelled());
        assert!(timeout(millis(10), writer.as_mut()).await.is_err(), "it announces again");
        assert!(!world.is_readable_elsewhere().await);
        gate.open();
        sleep(millis(1)).await;
        drop(writer);
        drained(&locks).await;
        assert!(world.is_readable_elsewhere().await);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_wait_no_longer_than_one_announcement_for_a_writer_that_has_died() {
    let world = World::new();
    let locks = world.locks();
    let _reader = world.read_elsewhere().await.unwrap();
    // A process that dies withdraws nothing.
    world.plan(Operation::Abandon, &Fault::Refused, 1);
    let lock = locks.lock("k").wait(secs(5));
    error_of(lock.acquire().await, ErrorKind::AcquisitionTimeout);
    drained(&locks).await;
    world.assert_planned(0);
    assert!(!world.is_readable_elsewhere().await);
    sleep(ANNOUNCEMENT).await;
    assert!(world.is_readable_elsewhere().await);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_does_not_wait_announces_nothing() {
    let world = World::new();
    let locks = world.locks();
    let _reader = world.read_elsewhere().await.unwrap();
    assert!(locks.lock("k").try_acquire().await.unwrap().acquired().is_none());
    error_of(locks.lock("k").wait(Duration::ZERO).acquire().await, ErrorKind::AcquisitionTimeout);
    assert!(world.is_readable_elsewhere().await);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_for_another_one_announces_nothing() {
    let world = World::new();
    let locks = world.locks();
    let writer = world.hold_elsewhere("k", LONG).await;
    let lock = patient(locks.lock("k"));
    let waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
    sleep(secs(60)).await;
    // Its first attempt, and one after it has subscribed.
    assert_eq!(world.sent(Operation::Acquire).len(), 2);
    world.release_elsewhere(&writer).await;
    waiting.await.unwrap().release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_semaphore_has_as_many_holders_as_permits() {
    let (world, inside) = (World::new(), Arc::new(AtomicUsize::new(0)));
    let (locks, max) = (world.locks(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        let (lock, inside, max) = (patient(locks.semaphore("k", 4)), inside.clone(), max.clone());
        tasks.spawn(async move {
            let guard = lock.acquire().await.unwrap();
            max.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(secs(1)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
            guard.release().await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(max.load(Ordering::SeqCst), 4);
    let acquires = world.sent(Operation::Acquire).len();
    assert!(acquires <= 40 * 3, "{acquires} acquires for 40 grants");
}

#[tokio::test(start_paused = true)]
async fn a_semaphore_has_at_least_one_permit_and_all_name_the_same_number() {
    let world = World::new();
    let locks = world.locks();
    let none = error_of(locks.semaphore("k", 0).acquire().await, ErrorKind::InvalidArgument);
    assert!(none.to_string().contains("permits is 0"), "{none}");
    assert!(world.sent(Operation::Acquire).is_empty());
    let _held = locks.semaphore("k", 4).acquire().await.unwrap();
    let other = error_of(locks.semaphore("k", 5).acquire().await, ErrorKind::InvalidArgument);
    assert!(other.to_string().contains("5 permits") && other.to_string().contains("4 permits"));
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_goes_first_and_waiting_makes_up_for_a_lower_one() {
    let world = World::new();
    let locks = world.locks();
    let other = world.hold_elsewhere("k", LONG).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let arrivals = [("first", 0), ("low", -2), ("high", 5), ("equal", 5), ("late", 2)];
    for (name, priority) in arrivals {
        let (lock, order) = (patient(locks.lock("k").priority(priority)), order.clone());
        tasks.spawn(async move {
            let guard = lock.acquire().await.unwrap();
            order.lock().unwrap().push(name);
            guard.release().await.unwrap();
        });
        sleep(secs(1)).await;
    }
    // "late" came after 4 s with two levels, so it is behind "first", which came at once.
    assert_eq!(locks.stats().keys[0].waiters, arrivals.len());
    assert_eq!(locks.stats().keys[0].longest_wait, secs(5));
    world.release_elsewhere(&other).await;
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), ["high", "equal", "first", "late", "low"]);
}

#[tokio::test(start_paused = true)]
async fn waiters_that_always_have_a_higher_priority_do_not_starve_a_lower_one() {
    let world = World::new();
    let locks = world.locks();
    let busy = |locks: LockManager| async move {
        loop {
            let guard = patient(locks.lock("k").priority(3)).acquire().await.unwrap();
            sleep(millis(100)).await;
            guard.release().await.unwrap();
        }
    };
    let mut tasks = JoinSet::new();
    (0..8).for_each(|_| drop(tasks.spawn(busy(locks.clone()))));
    sleep(secs(10)).await;
    // Three seconds, and one round of those that had arrived by then.
    let guard = timeout(secs(5), patient(locks.lock("k")).acquire()).await.unwrap().unwrap();
    assert!(guard.is_valid());
}

/// The tasks of mixed mode in one process, for whose grants the store is asked how often.
const TASKS: usize = 10_000;

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_of_mixed_mode_need_at_most_four_commands_a_grant() {
    let (world, writers) = (World::new(), Arc::new(AtomicUsize::new(0)));
    let readers = Arc::new(AtomicUsize::new(0));
    let (locks, other) = (world.locks(), world.hold_elsewhere("k", LONG).await);
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        let mode = if number % 3 == 0 { Mode::Exclusive } else { Mode::SHARED };
        let lock = patient(locks.lock("k").mode(mode));
        let (writers, readers) = (writers.clone(), readers.clone());
        tasks.spawn(async move {
            let guard = lock.acquire().await.unwrap();
            let own = if mode.is_shared() { &readers } else { &writers };
            own.fetch_add(1, Ordering::SeqCst);
            assert!(writers.load(Ordering::SeqCst) == 0 || readers.load(Ordering::SeqCst) == 0);
            assert!(writers.load(Ordering::SeqCst) < 2);
            yield_now().await;
            own.fetch_sub(1, Ordering::SeqCst);
            guard.release().await.unwrap();
        });
        yield_now().await;
    }
    sleep(secs(60)).await;
    assert_eq!(world.sent(Operation::Acquire).len(), 2, "one waiter sends requests for all");
    world.release_elsewhere(&other).await;
    tasks.join_all().await;
    let commands: usize = [Operation::Acquire, Operation::Release, Operation::Abandon]
        .map(|operation| world.sent(operation).len())
        .iter()
        .sum();
    assert!(commands <= 4 * TASKS, "{commands} commands for {TASKS} grants");
}
