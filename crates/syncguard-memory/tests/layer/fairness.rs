//! A process with many waiters beside one with a single waiter. Two processes are two `LockManager`s
//! over one store: they share no queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use syncguard_core::{LockManager, Operation};
use syncguard_memory::MemoryBackend;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    LONG, World,
    store::Watched,
    time::{millis, secs},
};

const HOLD: Duration = millis(20);
const TIME: Duration = secs(30);
const MANY: usize = 8;

/// What a process did in the time.
#[derive(Debug, Default)]
struct Did {
    grants: AtomicUsize,
    longest_wait_millis: AtomicUsize,
}

impl Did {
    fn grants(&self) -> usize {
        self.grants.load(Ordering::SeqCst)
    }

    fn longest_wait(&self) -> Duration {
        millis(self.longest_wait_millis.load(Ordering::SeqCst) as u64)
    }
}

/// A process: how its store is asked, and its tasks.
struct Process {
    locks: LockManager,
    tasks: usize,
    did: Arc<Did>,
}

impl Process {
    fn new(world: &World, store: Watched<MemoryBackend>, tasks: usize) -> Self {
        let locks = LockManager::builder(store).clock(world.clock.shared()).build();
        Self { locks, tasks, did: Arc::default() }
    }

    /// Lets each task take and leave the lock until the time is over.
    fn start(&self, all: &mut JoinSet<()>, over: &Arc<AtomicBool>) {
        for _ in 0..self.tasks {
            let (locks, did, over) = (self.locks.clone(), self.did.clone(), over.clone());
            all.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let asked = Instant::now();
                    let guard = locks.lock("k").wait(LONG).acquire().await.unwrap();
                    let waited = usize::try_from(asked.elapsed().as_millis()).unwrap();
                    did.longest_wait_millis.fetch_max(waited, Ordering::SeqCst);
                    did.grants.fetch_add(1, Ordering::SeqCst);
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
    sleep(TIME).await;
    over.store(true, Ordering::SeqCst);
    all.join_all().await;
}

fn shared(world: &World) -> Watched<MemoryBackend> {
    Watched::new(world.others.clone()).shared()
}

#[tokio::test(start_paused = true)]
async fn a_process_with_many_waiters_lets_a_lone_one_in() {
    let world = World::new();
    let (busy, far) = (Process::new(&world, shared(&world), MANY), shared(&world));
    // It always asks after the others: without a pause they would have taken the lock.
    far.delay(Operation::Acquire, millis(3));
    let lone = Process::new(&world, far, 1);
    run(&[&busy, &lone]).await;
    let (all, its) = (busy.did.grants() + lone.did.grants(), lone.did.grants());
    assert!(its * 20 >= all, "{its} of {all}");
    let longest = lone.did.longest_wait();
    assert!(longest <= millis(1_500), "{longest:?}");
    assert!(all >= 1_500 * 9 / 10, "{all} of 1500");
}

/// One that takes the lock again as soon as it has left it needs no others to keep it.
#[tokio::test(start_paused = true)]
async fn a_process_with_one_task_in_a_loop_lets_another_one_in() {
    let world = World::new();
    let processes = [1, MANY].map(|tasks| {
        let store = shared(&world);
        store.delay(Operation::Acquire, millis(3));
        Process::new(&world, store, tasks)
    });
    // The one begins by meeting the others: one that never met them does not pause.
    run(&[&processes[1], &processes[0]]).await;
    let all: usize = processes.iter().map(|process| process.did.grants()).sum();
    for process in &processes {
        assert!(process.did.grants() * 10 >= all, "{:?} of {all}", process.did);
        let longest = process.did.longest_wait();
        assert!(longest <= millis(1_500) * u32::try_from(process.tasks).unwrap(), "{longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_cost_a_process_that_is_alone_little() {
    let world = World::new();
    let alone = Process::new(&world, shared(&world), MANY);
    run(&[&alone]).await;
    let grants = alone.did.grants();
    // Timers are late by a millisecond in twenty.
    assert!((1_500 * 92 / 100..1_500).contains(&grants), "{grants} of 1500");
}

/// The second of them comes while the first asks, and is refused because of the grant to the first.
#[tokio::test(start_paused = true)]
async fn two_tasks_that_met_each_other_do_not_pause_for_another_process() {
    let world = World::new();
    let store = shared(&world);
    store.delay(Operation::Acquire, millis(3));
    let locks = Process::new(&world, store, 1).locks;
    let time_of_a_loop = async || {
        let began = Instant::now();
        for _ in 0..100 {
            let guard = locks.lock("k").acquire().await.unwrap();
            sleep(HOLD).await;
            guard.release().await.unwrap();
        }
        began.elapsed()
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
async fn a_store_that_no_other_process_can_use_sees_no_pauses() {
    let world = World::new();
    let store = Watched::new(world.others.clone());
    let (plain, pausing) = (Process::new(&world, store, MANY), World::new());
    run(&[&plain]).await;
    let other = Process::new(&pausing, shared(&pausing), MANY);
    run(&[&other]).await;
    assert!(
        plain.did.grants() > other.did.grants(),
        "{} and {}",
        plain.did.grants(),
        other.did.grants()
    );
}
