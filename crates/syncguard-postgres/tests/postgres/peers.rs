//! Waiters that compete with TypeScript clients that work in a loop and notify no one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use syncguard_core::{
    LockId, LockManager,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::operations::{LONG, ask};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Foreign, Names,
    peer::{typescript_acquire, typescript_release},
    queueing::{hold_turn, queued},
    shared,
};

/// How long a worker holds the key. It reacquires the key at once.
const HOLD: Duration = Duration::from_millis(20);

/// How long a worker pauses after it found the key held.
const PAUSE: Duration = Duration::from_millis(100);

/// How long each of our acquires waits.
const WAIT: Duration = Duration::from_secs(20);

/// The state that the workers share with the test that stops them.
#[derive(Default)]
struct Work {
    grants: AtomicUsize,
    is_over: AtomicBool,
}

async fn worker(url: String, names: Names, work: Arc<Work>) {
    let (mut foreign, text) = (Foreign::open(&url).await, "job");
    while !work.is_over.load(Ordering::Relaxed) {
        let id = LockId::mint().unwrap();
        match typescript_acquire(&mut foreign, &names, text, id.as_str()).await {
            Some(_) => {
                work.grants.fetch_add(1, Ordering::Relaxed);
                sleep(HOLD).await;
                typescript_release(&mut foreign, &names, id.as_str()).await;
            }
            None => sleep(PAUSE).await,
        }
    }
}

/// Runs `clients` waiters until each was granted the key `times` times, in competition with
/// `workers` workers.
async fn compete_with_workers(workers: usize, clients: usize, times: usize) {
    let (server, names) = (shared().await, Names::fresh());
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    let (work, mut tasks) = (Arc::<Work>::default(), JoinSet::new());
    for _ in 0..workers {
        tasks.spawn(worker(server.url(), names.clone(), work.clone()));
    }
    let mut waiters = JoinSet::new();
    for _ in 0..clients {
        let locks = LockManager::new(names.connect(&server.url()).await);
        waiters.spawn(async move {
            for _ in 0..times {
                let guard = locks.lock("job").ttl(LONG).wait(WAIT).acquire().await.unwrap();
                guard.release().await.unwrap();
            }
        });
    }
    waiters.join_all().await;
    work.is_over.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let grants = work.grants.load(Ordering::Relaxed) + clients * times;
    let fence = format!("SELECT fence FROM {}", names.counters);
    let fences = Foreign::open(&server.url()).await.number(&fence).await;
    assert_eq!(usize::try_from(fences).unwrap(), grants, "who comes too late counts no fence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_is_granted_the_key_despite_a_worker_that_reacquires_at_once() {
    compete_with_workers(1, 1, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_waiter_is_granted_the_key_despite_many_workers() {
    compete_with_workers(8, 4, 2).await;
}

/// Makes the backend observe that the key changes hands unseen.
async fn observe_unseen_changes(backend: &impl LockBackend, foreign: &mut Foreign, names: &Names) {
    for fence in 1..=2 {
        let row = format!("'job', '{fence:a>22}', 9e15, 1, '{fence:015}', 'job'");
        let upsert = format!(
            "INSERT INTO {} VALUES ({row}) ON CONFLICT (key) DO UPDATE
            SET lock_id = excluded.lock_id, fence = excluded.fence",
            names.locks
        );
        foreign.run(&upsert).await;
        let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
        assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_attempt_at_a_key_that_changes_hands_unseen_queues_with_its_peers() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    observe_unseen_changes(&backend, &mut foreign, &names).await;
    let mut peer = hold_turn(&server, "job").await;
    let late = tokio::spawn(async move { backend.acquire(&ask("job", LONG)).await });
    queued(&server, 1).await;
    // The holder releases, and the peer that is deciding does not take the key.
    foreign.run(&format!("DELETE FROM {}", names.locks)).await;
    peer.run("ROLLBACK").await;
    let outcome = late.await.unwrap().unwrap();
    assert!(matches!(outcome, AcquireOutcome::Granted(_)), "it was next: {outcome:?}");
}
