//! A server that stops, crashes, ends its connections, or pauses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use syncguard_core::{AcquireOutcome, AcquireRequest, LockBackend, LockManager};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, is_locked, key, lock_of, released, soon},
    server::PostgresServer,
};

use crate::{Foreign, connect};

/// Tasks that acquire and release one lock until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    /// The highest fence that was granted.
    last: Arc<AtomicU64>,
    tasks: tokio::task::JoinSet<()>,
}

impl Load {
    fn start(backend: &PostgresBackend) -> Self {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (backend, stop, last) = (backend.clone(), stop.clone(), last.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let request = ask("job", Duration::from_millis(50));
                    match backend.acquire(&request).await {
                        Ok(AcquireOutcome::Granted(grant)) => {
                            let before = last.fetch_max(grant.fence.number(), Ordering::Relaxed);
                            assert!(grant.fence.number() > before, "{grant:?} after {before}");
                            if backend.release(&lock_of(&request)).await.is_err() {
                                abandon_with_retries(&backend, &request).await;
                            }
                        }
                        Ok(_) => tokio::task::yield_now().await,
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            abandon_with_retries(&backend, &request).await;
                        }
                    }
                }
            });
        }
        Self { stop, last, tasks }
    }

    fn grants(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Waits for one more grant.
    async fn until_next_grant(&self) {
        let before = self.grants();
        eventually("somebody is granted the lock", async || self.grants() > before).await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// Abandons an acquire as soon as the server can be reached.
async fn abandon_with_retries(backend: &PostgresBackend, request: &AcquireRequest) {
    while backend.abandon(request.lock_id, &request.key).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fence_goes_back_over_ten_kills_under_load() {
    let server = PostgresServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let load = Load::start(&backend);
    for _ in 0..10 {
        load.until_next_grant().await;
        server.kill().unwrap();
        server.restart().await.unwrap();
    }
    load.until_next_grant().await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soon_after_a_restart_locks_are_granted_again() {
    let server = PostgresServer::start().await.unwrap();
    let locks = LockManager::new(connect(&server.url()).await);
    for round in 0..3 {
        let wait = || locks.lock(format!("job {round}")).wait(LONG).acquire();
        // A crash may undo this release, so the key is a different one.
        drop(locks.lock("warm-up").try_acquire().await.unwrap());
        server.kill().unwrap();
        let waiting = tokio::spawn(wait());
        server.restart().await.unwrap();
        let others = async || drop(Foreign::open(&server.url()).await);
        drop(soon("the waiter is", waiting, others).await.unwrap().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soon_after_losing_its_connections_a_client_is_granted_locks_again() {
    let server = PostgresServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let load = Load::start(&backend);
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'syncguard'";
    for _ in 0..20 {
        load.until_next_grant().await;
        assert!(foreign.number(terminate).await > 0, "connections were ended");
        let others = async || drop(Foreign::open(&server.url()).await);
        soon("the client is", load.until_next_grant(), others).await;
    }
    load.end().await;
}

/// A grant is on disk before it is answered, and a release is not. If a crash undoes the release,
/// the former holder has the lock until its ttl has passed, and no one else does.
#[tokio::test]
async fn a_crash_may_undo_a_release_but_no_grant() {
    // By itself, the server writes its log only every ten seconds.
    let server = PostgresServer::builder().setting("wal_writer_delay", "10000ms");
    let server = server.start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut came_back = 0;
    for round in 1..=5 {
        let request = ask("job", LONG);
        let grant = granted(&backend, &request).await;
        assert!(released(&backend, &request).await);
        server.kill().unwrap();
        server.restart().await.unwrap();
        let job = key("job");
        let record = backend.lookup(&job.clone().into()).await.unwrap();
        if let Some(record) = record {
            came_back += 1;
            assert_eq!((record.lock_id, record.fence), (request.lock_id, grant.fence));
            assert!(backend.force_release(&job).await.unwrap().is_some());
        }
        assert_eq!(grant.fence.number(), round, "no fence is lost");
    }
    assert!(came_back > 0, "no release was lost");
}

#[tokio::test]
async fn a_holder_whose_server_was_paused_past_the_ttl_has_lost_the_lock() {
    let server = PostgresServer::start().await.unwrap();
    let (mine, theirs) =
        (LockManager::new(connect(&server.url()).await), connect(&server.url()).await);
    let guard = mine.lock("job").ttl(Duration::from_millis(500)).acquire().await.unwrap();
    let fence = guard.fence().unwrap();
    server.pause().unwrap();
    guard.lost().await;
    assert!(!guard.is_valid(), "it knows by its own clock");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    server.resume().unwrap();
    let next = granted(&theirs, &ask("job", LONG)).await.fence;
    assert!(next > fence, "{next} after {fence}");
    guard.release().await.ok();
    assert!(is_locked(&theirs, "job").await, "its release leaves the new lock alone");
}
