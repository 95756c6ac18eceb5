//! A server that stops, dies, hangs up, or keeps statements waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use syncguard_core::{AcquireOutcome, AcquireRequest, ErrorKind, LockBackend, LockManager};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, granted, is_locked, lock_of, released, soon},
    server::MariadbServer,
};

use crate::{Foreign, NOW_MS, config, connect};

/// Load that goes on until it is dropped, on a lock for each task.
struct Load {
    stop: Arc<AtomicBool>,
    /// The highest fence that was granted.
    last: Arc<AtomicU64>,
    tasks: tokio::task::JoinSet<()>,
}

impl Load {
    fn start(backend: &MysqlBackend) -> Self {
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
                            if !comes_and_goes(&backend, &request).await {
                                call_off(&backend, &request).await;
                            }
                        }
                        Ok(_) => tokio::task::yield_now().await,
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            call_off(&backend, &request).await;
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
    async fn goes_on(&self) {
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

/// Extends a grant and releases it, and tells whether both were answered.
async fn comes_and_goes(backend: &MysqlBackend, request: &AcquireRequest) -> bool {
    let lock = lock_of(request);
    let extended = backend.extend(&lock, request.ttl).await.is_ok();
    extended && backend.release(&lock).await.is_ok()
}

/// Calls an acquire off, as soon as there is a server.
async fn call_off(backend: &MysqlBackend, request: &AcquireRequest) {
    while backend.abandon(request.lock_id, &request.key).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fence_goes_back_over_ten_kills_under_load() {
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let load = Load::start(&backend);
    for _ in 0..10 {
        load.goes_on().await;
        server.kill().unwrap();
        server.restart().await.unwrap();
    }
    load.goes_on().await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soon_after_a_restart_locks_are_granted_again() {
    let server = MariadbServer::start().await.unwrap();
    let locks = LockManager::new(connect(&server.url()).await);
    for round in 0..3 {
        let wait = || locks.lock(format!("job {round}")).wait(LONG).acquire();
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
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let load = Load::start(&backend);
    let others = "SELECT ID FROM information_schema.PROCESSLIST
        WHERE ID <> CONNECTION_ID() AND USER = 'root'";
    for _ in 0..20 {
        load.goes_on().await;
        assert!(foreign.kill(others).await > 0, "connections were ended");
        let others = async || drop(Foreign::open(&server.url()).await);
        soon("the client is", load.goes_on(), others).await;
    }
    load.end().await;
}

/// A row that somebody else has locked, until they commit.
async fn locked(server: &MariadbServer, backend: &MysqlBackend) -> Foreign {
    let request = ask("job", LONG);
    granted(backend, &request).await;
    assert!(released(backend, &request).await);
    let mut foreign = Foreign::open(&server.url()).await;
    foreign.run("BEGIN").await;
    foreign.run("SELECT * FROM syncguard_locks WHERE lock_key = 'job' FOR UPDATE").await;
    foreign
}

#[tokio::test]
async fn the_clock_is_read_after_a_wait_for_the_row() {
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut foreign = locked(&server, &backend).await;
    let request = ask("job", LONG);
    let waiting = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { granted(&backend, &request).await }
    });
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(!waiting.is_finished(), "it waits for the row");
    let unlocked = foreign.number(NOW_MS).await;
    foreign.run("COMMIT").await;
    let grant = waiting.await.unwrap();
    let given = grant.expires_at.unix_millis() - i64::try_from(LONG.as_millis()).unwrap();
    assert!(given >= unlocked, "{given} is the time of the request, not that of the grant");
}

#[tokio::test]
async fn an_acquire_that_waits_for_too_long_is_given_up_and_changes_nothing() {
    let server = MariadbServer::start().await.unwrap();
    let config = config(&server.url()).lock_timeout(Duration::from_secs(1));
    let backend = MysqlBackend::connect(config).await.unwrap();
    let mut foreign = locked(&server, &backend).await;
    let error = backend.acquire(&ask("job", LONG)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    foreign.run("COMMIT").await;
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 2);
}

#[tokio::test]
async fn a_dropped_acquire_goes_on_in_the_server_until_it_is_abandoned() {
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    for abandoned in [false, true] {
        let mut foreign = locked(&server, &backend).await;
        let request = ask("job", LONG);
        let acquire = backend.acquire(&request);
        assert!(tokio::time::timeout(Duration::from_millis(200), acquire).await.is_err());
        if abandoned {
            // The row of the mark is another one, so it does not wait.
            backend.abandon(request.lock_id, &request.key).await.unwrap();
        }
        foreign.run("COMMIT").await;
        if abandoned {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(!is_locked(&backend, "job").await);
            assert!(backend.lookup(&request.lock_id.into()).await.unwrap().is_none());
        } else {
            let held = async || is_locked(&backend, "job").await;
            eventually("it is granted all the same", held).await;
            assert!(released(&backend, &request).await);
        }
    }
}

/// The connection dies with the server while the commit is under way. Whether the grant was made or not,
/// it is gone once it is abandoned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_abandoned_after_a_crash_in_its_commit_is_gone() {
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut unknown = 0;
    for round in 0..5 {
        let requests: Vec<_> = (0..4).map(|n| ask(&format!("{round} {n}"), LONG)).collect();
        let mut acquires = tokio::task::JoinSet::new();
        for request in requests.clone() {
            let backend = backend.clone();
            acquires.spawn(async move { backend.acquire(&request).await });
        }
        tokio::time::sleep(Duration::from_micros(600 * round)).await;
        server.kill().unwrap();
        for outcome in acquires.join_all().await {
            unknown += usize::from(outcome.is_err_and(|error| error.may_have_applied()));
        }
        server.restart().await.unwrap();
        for request in &requests {
            call_off(&backend, request).await;
            assert!(!is_locked(&backend, request.key.as_str()).await);
            error_of(backend.acquire(request).await, ErrorKind::Aborted);
        }
    }
    assert!(unknown > 0, "no acquire was cut off");
}

#[tokio::test]
async fn a_holder_whose_server_stood_still_past_the_ttl_has_lost_the_lock() {
    let server = MariadbServer::start().await.unwrap();
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
