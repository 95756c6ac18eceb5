//! Fairness between a process with many waiters and one with a single waiter. Each process is a
//! `LockManager` over the same store, so they share no queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use syncguard_core::{LockBuilder, LockManager, Operation, backend::WakeUp};
use syncguard_memory::MemoryBackend;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    LONG, World,
    store::RecordingStore,
    time::{millis, secs},
};

const HOLD: Duration = millis(20);
const TEST_TIME: Duration = secs(30);
const MANY_TASKS: usize = 8;

/// What a process achieved in the test time.
#[derive(Debug, Default)]
struct Stats {
    grants: AtomicUsize,
    longest_wait_millis: AtomicUsize,
}

impl Stats {
    fn grants(&self) -> usize {
        self.grants.load(Ordering::SeqCst)
    }

    fn longest_wait(&self) -> Duration {
        millis(self.longest_wait_millis.load(Ordering::SeqCst) as u64)
    }
}

/// A process: its locks, the number of its tasks, and its statistics.
struct Process {
    locks: LockManager,
    tasks: usize,
    /// What each task locks.
    lock: fn(&LockManager, usize) -> LockBuilder,
    stats: Arc<Stats>,
}

impl Process {
    fn new(world: &World, store: RecordingStore<MemoryBackend>, tasks: usize) -> Self {
        let locks = LockManager::builder(store).clock(world.clock.shared()).build();
        Self { locks, tasks, lock: |locks, _| locks.lock("k"), stats: Arc::default() }
    }

    fn locking(self, lock: fn(&LockManager, usize) -> LockBuilder) -> Self {
        Self { lock, ..self }
    }

    /// Starts tasks that acquire and release the lock until the time is over.
    fn start(&self, all: &mut JoinSet<()>, over: &Arc<AtomicBool>) {
        for number in 0..self.tasks {
            let lock = self.lock;
            let (locks, stats, over) = (self.locks.clone(), self.stats.clone(), over.clone());
            all.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let requested = Instant::now();
                    let guard = lock(&locks, number).wait(LONG).acquire().await.unwrap();
                    let waited = usize::try_from(requested.elapsed().as_millis()).unwrap();
                    stats.longest_wait_millis.fetch_max(waited, Ordering::SeqCst);
                    stats.grants.fetch_add(1, Ordering::SeqCst);
                    sleep(HOLD).await;
                    guard.release().await.unwrap();
                }
            });
        }
    }
}

async fn run(processes: &[&Process]) {
    let (mut all, over) = (JoinSet::new(), Arc::default());
    for process in processes {
        process.start(&mut all, &over);
    }
    sleep(TEST_TIME).await;
    over.store(true, Ordering::SeqCst);
    all.join_all().await;
}

fn shared(world: &World) -> RecordingStore<MemoryBackend> {
    RecordingStore::new(world.others.clone()).shared()
}

#[tokio::test(start_paused = true)]
async fn a_process_with_many_waiters_does_not_shut_out_a_process_with_one() {
    let world = World::new();
    let (busy, slow) = (Process::new(&world, shared(&world), MANY_TASKS), shared(&world));
    // Its requests always arrive after those of the others: without a pause, the others would have
    // acquired the lock.
    slow.delay(Operation::Acquire, millis(3));
    let lone = Process::new(&world, slow, 1);
    run(&[&busy, &lone]).await;
    let (all, its) = (busy.stats.grants() + lone.stats.grants(), lone.stats.grants());
    assert!(its * 20 >= all, "{its} of {all}");
    let longest = lone.stats.longest_wait();
    assert!(longest <= millis(1_500), "{longest:?}");
    assert!(all >= 1_500 * 9 / 10, "{all} of 1500");
}

#[tokio::test(start_paused = true)]
async fn a_process_with_many_waiters_for_a_permit_does_not_shut_out_a_process_with_one() {
    let world = World::new();
    let permit = |locks: &LockManager, _: usize| locks.semaphore("k", 2);
    let busy = Process::new(&world, shared(&world), MANY_TASKS).locking(permit);
    let slow = shared(&world);
    slow.delay(Operation::Acquire, millis(3));
    let lone = Process::new(&world, slow, 1).locking(permit);
    run(&[&busy, &lone]).await;
    let longest = lone.stats.longest_wait();
    assert!(longest <= millis(1_500), "{longest:?}");
}

/// Returns whether of two processes that wait for a third one, the one that has not had the key gets
/// it before the one that had it lately. The request of the latter arrives first unless it is
/// deferred.
async fn new_comes_before_lately(wake_up: WakeUp) -> bool {
    let world = World::new();
    let process = |delay| {
        let store = shared(&world).waking_up(wake_up);
        store.delay(Operation::Acquire, delay);
        Process::new(&world, store, 1).locks
    };
    let [holder, before, new] = [0, 0, 2].map(|delay| process(millis(delay)));
    let hold = async |locks: &LockManager, time| {
        let guard = locks.lock("k").wait(LONG).acquire().await.unwrap();
        sleep(time).await;
        guard.release().await.unwrap();
        Instant::now()
    };
    let guard = holder.lock("k").acquire().await.unwrap();
    let release = async {
        sleep(secs(1)).await;
        guard.release().await.unwrap();
    };
    tokio::join!(release, hold(&before, HOLD));
    let waits = async |locks| {
        sleep(millis(1)).await;
        hold(locks, HOLD).await
    };
    let (_, before, new) = tokio::join!(hold(&holder, HOLD), waits(&before), waits(&new));
    new < before
}

/// It leaves the key because it had it lately, and then waited for longer than a single other
/// process would make it wait.
#[tokio::test(start_paused = true)]
async fn among_several_processes_one_that_had_the_key_leaves_it_to_one_that_had_not() {
    assert!(new_comes_before_lately(WakeUp::Notified).await);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_turn_it_is_leaves_the_key_to_no_other() {
    assert!(!new_comes_before_lately(WakeUp::InTurn).await);
}

/// The grants to the readers of a process are no sign of another process that ends its turn.
#[tokio::test(start_paused = true)]
async fn a_process_with_readers_and_writers_does_not_shut_out_a_process_with_a_writer() {
    let world = World::new();
    let busy = Process::new(&world, shared(&world), MANY_TASKS).locking(|locks, number| {
        let lock = locks.lock("k");
        if number % 2 == 0 { lock.shared() } else { lock }
    });
    let slow = shared(&world);
    slow.delay(Operation::Acquire, millis(3));
    let lone = Process::new(&world, slow, 1);
    run(&[&busy, &lone]).await;
    let longest = lone.stats.longest_wait();
    assert!(longest <= secs(2), "{longest:?}");
}

/// A single task that acquires the lock again immediately after each release can keep the key too.
#[tokio::test(start_paused = true)]
async fn a_process_with_one_task_in_a_loop_does_not_shut_out_another() {
    let world = World::new();
    let processes = [1, MANY_TASKS].map(|tasks| {
        let store = shared(&world);
        store.delay(Operation::Acquire, millis(3));
        Process::new(&world, store, tasks)
    });
    // The single task first finds the key held by the others: otherwise it would not pause.
    run(&[&processes[1], &processes[0]]).await;
    let all: usize = processes.iter().map(|process| process.stats.grants()).sum();
    for process in &processes {
        assert!(process.stats.grants() * 10 >= all, "{:?} of {all}", process.stats);
        let longest = process.stats.longest_wait();
        assert!(longest <= millis(1_500) * u32::try_from(process.tasks).unwrap(), "{longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_cost_little_without_other_processes() {
    let world = World::new();
    let alone = Process::new(&world, shared(&world), MANY_TASKS);
    run(&[&alone]).await;
    let grants = alone.stats.grants();
    // Timers are late by a millisecond in twenty.
    assert!((1_500 * 92 / 100..1_500).contains(&grants), "{grants} of 1500");
}

/// The second task requests the lock while the request of the first is in flight, and finds it held
/// by the first.
#[tokio::test(start_paused = true)]
async fn contention_between_tasks_of_one_process_causes_no_pauses() {
    let world = World::new();
    let store = shared(&world);
    store.delay(Operation::Acquire, millis(3));
    let locks = Process::new(&world, store, 1).locks;
    let time_of_a_loop = async || {
        let start = Instant::now();
        for _ in 0..100 {
            let guard = locks.lock("k").acquire().await.unwrap();
            sleep(HOLD).await;
            guard.release().await.unwrap();
        }
        start.elapsed()
    };
    let before = time_of_a_loop().await;
    let hold = async || {
        let guard = locks.lock("k").wait(LONG).acquire().await.unwrap();
        sleep(HOLD).await;
        guard.release().await.unwrap();
    };
    tokio::join!(hold(), hold());
    assert_eq!(time_of_a_loop().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_no_other_process_can_use_causes_no_pauses() {
    let world = World::new();
    let store = RecordingStore::new(world.others.clone());
    let (plain, pausing) = (Process::new(&world, store, MANY_TASKS), World::new());
    run(&[&plain]).await;
    let other = Process::new(&pausing, shared(&pausing), MANY_TASKS);
    run(&[&other]).await;
    assert!(
        plain.stats.grants() > other.stats.grants(),
        "{} and {}",
        plain.stats.grants(),
        other.stats.grants()
    );
}
