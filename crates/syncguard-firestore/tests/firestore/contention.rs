//! Clients that contend for one lock.

use std::{sync::Arc, time::Duration};

use firestore_emulator::{Concurrency, Emulator, Fault, Rpc};
use gcloud_sdk::tonic::Code;
use syncguard_core::{
    LockManager, ShutdownOutcome,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_testkit::operations::{LONG, ask, granted, is_locked};

use crate::{connect, start, start_as};

/// Runs sixteen tasks that each hold one lock three times. Returns the fences in the order of the
/// holds.
async fn run_sixteen_tasks(emulator: &Emulator, clients: usize) -> Vec<u64> {
    let managers: Vec<_> = (0..clients).map(|_| LockManager::new(connect(emulator))).collect();
    let fences = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let (locks, fences) = (managers[task % clients].clone(), fences.clone());
        tasks.spawn(async move {
            for _ in 0..3 {
                let guard = locks.lock("job").ttl(LONG).wait(LONG).acquire().await.unwrap();
                let mut fences = fences.try_lock().expect("one holder at a time");
                fences.push(guard.fence().unwrap().number());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    tasks.join_all().await;
    for locks in managers {
        assert_eq!(locks.shutdown(LONG).await, ShutdownOutcome::Drained);
    }
    let fences = fences.lock().await;
    fences.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_tasks_acquire_the_lock_despite_150_aborted_commits() {
    const STORM: usize = 150;
    let emulator = start().await;
    let storm = emulator.inject(Fault::refuse(Code::Aborted).document("job").times(STORM));
    let fences = run_sixteen_tasks(&emulator, 4).await;
    assert_eq!(storm.hits(), STORM, "so many commits were aborted");
    assert_eq!(fences, (1..=48).collect::<Vec<_>>(), "none of them cost a fence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_that_contend_for_one_lock_all_acquire_it() {
    for concurrency in [Concurrency::Pessimistic, Concurrency::Optimistic] {
        let emulator = start_as(concurrency).await;
        let fences = run_sixteen_tasks(&emulator, 16).await;
        assert_eq!(fences, (1..=48).collect::<Vec<_>>());
        let commits = emulator.calls().of(Rpc::Commit);
        assert!(commits > 2 * 48, "there were conflicts among {commits} commits");
    }
}

#[tokio::test]
async fn contended_acquires_read_once_and_write_nothing() {
    let emulator = start().await;
    let backend = connect(&emulator);
    granted(&backend, &ask("job", LONG)).await;
    let before = emulator.calls();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let backend = backend.clone();
        tasks.spawn(async move { backend.acquire(&ask("job", LONG)).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert!(outcomes.iter().all(|it| matches!(it, AcquireOutcome::Contended { .. })));
    let calls = emulator.calls() - before;
    assert_eq!((calls.of(Rpc::BatchGetDocuments), calls.total()), (16, 16));
}

#[tokio::test]
async fn an_acquire_whose_commits_are_all_aborted_returns_contended() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let storm = emulator.inject(Fault::refuse(Code::Aborted).document("job").times(1_000));
    let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
    assert_eq!(outcome, AcquireOutcome::Contended { holder: None });
    assert!((5..20).contains(&storm.hits()), "{} attempts", storm.hits());
    assert!(!is_locked(&backend, "job").await);
}
