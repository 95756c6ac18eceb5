//! Connections that are lost silently, hang, or are too few.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use syncguard_core::{
    ErrorKind,
    backend::{AcquireRequest, LockBackend},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Foreign, SHORT_TIMEOUT, Setting, Tables};
use crate::{
    operations::{LONG, ask, eventually, granted, is_locked, lock_of, ttl},
    proxy::Proxy,
    server::Server,
};

/// A network that has forgotten an idle connection drops what is sent over it. The statement would
/// wait for its answer until its timeout, and fail.
///
/// `open` connects to the address of a proxy in front of `upstream`, once.
pub async fn a_connection_that_the_network_has_forgotten_is_replaced_before_it_is_used<
    B: LockBackend,
>(
    upstream: SocketAddr,
    open: impl AsyncFnOnce(SocketAddr) -> B,
) {
    let proxy = Proxy::start(upstream).await.unwrap();
    proxy.forget_idle(Duration::from_secs(3));
    let backend = open(proxy.address()).await;
    granted(&backend, &ask("job", LONG)).await;
    let connections = proxy.counts().connections;
    sleep(Duration::from_secs(6)).await;
    granted(&backend, &ask("next job", LONG)).await;
    let counts = proxy.counts();
    assert_eq!(counts.forgotten, 1, "a forgotten connection was tried");
    assert_eq!(counts.connections, connections + 1, "and replaced");
}

/// Statements that make the commits of a server hang, and statements that observe it.
#[derive(Debug)]
pub struct HangingCommits {
    /// Make all commits hang from now on.
    pub begin: &'static [&'static str],
    /// Complete them again.
    pub end: &'static [&'static str],
    /// Counts the commits that hang.
    pub hanging: &'static str,
    /// Counts the sessions of the backend.
    pub sessions: &'static str,
}

/// The server waits for a missing replica, for as long as it is configured to, and the timeouts of
/// its statements do not end that wait.
///
/// The backend has at most `size` connections for operations, and a short statement timeout.
pub async fn hanging_commits_leave_no_more_sessions_than_the_pool_size<T: Tables>(
    config: T::Config,
    size: u32,
    commits: &HangingCommits,
    foreign: &mut T::Foreign,
) {
    let backend = connect_with_retries::<T>(&config).await;
    for statement in commits.begin {
        foreign.run(statement).await;
    }
    let Hung { most, unknown, unchanged } = hang(&backend, commits, foreign).await;
    assert!(unknown >= 2, "{unknown} outcomes are unknown");
    // One more connection ends sessions. One may listen; otherwise it is to spare.
    assert!(most <= i64::from(size) + 2, "{most} sessions");
    for statement in commits.end {
        foreign.run(statement).await;
    }
    eventually("locks are granted again", async || {
        backend.acquire(&ask("after", LONG)).await.is_ok()
    })
    .await;
    for key in unchanged {
        assert!(!is_locked(&backend, &key).await, "what was not applied shows: {key}");
    }
}

/// What was observed while commits hung.
struct Hung {
    /// The highest number of sessions.
    most: i64,
    /// How many outcomes are unknown.
    unknown: usize,
    /// The keys whose errors reported that nothing was applied.
    unchanged: Vec<String>,
}

/// Acquires from many tasks while commits hang repeatedly.
async fn hang(
    backend: &(impl LockBackend + Clone),
    commits: &HangingCommits,
    foreign: &mut impl Foreign,
) -> Hung {
    let unknown = Arc::new(AtomicUsize::new(0));
    let unchanged = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for task in 0..20 {
        let (backend, unknown, unchanged) = (backend.clone(), unknown.clone(), unchanged.clone());
        tasks.spawn(async move {
            for round in 0.. {
                let key = format!("job {task} {round}");
                match backend.acquire(&ask(&key, LONG)).await {
                    Err(error) if error.may_have_applied() => {
                        unknown.fetch_add(1, SeqCst);
                    }
                    Err(_) => unchanged.lock().unwrap().push(key),
                    Ok(_) => {}
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    eventually("a commit hangs", async || foreign.number(commits.hanging).await > 0).await;
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(6) {
        most = most.max(foreign.number(commits.sessions).await);
        sleep(Duration::from_millis(10)).await;
    }
    tasks.shutdown().await;
    let unchanged = std::mem::take(&mut *unchanged.lock().unwrap());
    Hung { most, unknown: unknown.load(SeqCst), unchanged }
}

/// An acquire that would wait too long is rejected and changes nothing.
pub async fn an_acquire_that_would_wait_too_long_is_rejected_and_changes_nothing<T: Tables>() {
    let server = T::shared().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let tables = T::fresh();
    let limit = Setting::ConnectTimeout(Duration::from_millis(400));
    let url = server.url_through(proxy.address());
    let config = tables.config(&url, &[Setting::MaxConnections(2), limit]);
    let backend = T::open(config).await.unwrap();
    proxy.delay(Duration::from_millis(25));
    granted(&backend, &ask("measured", LONG)).await;
    let mut tasks = JoinSet::new();
    for task in 0..100 {
        let backend = backend.clone();
        tasks.spawn(async move {
            let request = ask(&format!("job {task}"), LONG);
            (task, backend.acquire(&request).await)
        });
    }
    let elsewhere = tables.connect(&server.url()).await;
    let mut refused = 0;
    for (task, outcome) in tasks.join_all().await {
        let Err(error) = outcome else { continue };
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error:?}");
        assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
        assert!(!is_locked(&elsewhere, &format!("job {task}")).await);
        refused += usize::from(error.to_string().contains("would be free after"));
    }
    assert!(refused > 0, "none was refused early");
    granted(&backend, &ask("later", LONG)).await;
}

/// Clients that abandon connection attempts half-way and start again keep a server from recovering.
pub async fn a_server_that_was_paused_is_not_flooded_and_serves_the_holders<T: Tables>() {
    const HELD: usize = 200;
    let server = Server::<T::Program>::start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let settings = [
        Setting::ConnectTimeout(SHORT_TIMEOUT),
        Setting::StatementTimeout(SHORT_TIMEOUT),
        Setting::WithoutListening,
    ];
    let config = T::fresh().config(&server.url_through(proxy.address()), &settings);
    let backend = connect_with_retries::<T>(&config).await;
    let mut held = Vec::new();
    for number in 0..HELD {
        held.push(ask(&format!("job {number}"), LONG));
        acquire_with_retries(&backend, &held[number]).await;
    }
    let before = proxy.counts().connections;
    server.pause().unwrap();
    let mut tasks = JoinSet::new();
    for request in held {
        let backend = backend.clone();
        tasks.spawn(async move {
            while backend.extend(&lock_of(&request), ttl(LONG)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    sleep(Duration::from_secs(6)).await;
    let begun = proxy.counts().connections - before;
    assert!(begun < 20, "{begun} connections were begun while the server stood still");
    assert!(begun > 0 && tasks.try_join_next().is_none(), "it stood still");
    server.resume().unwrap();
    tasks.join_all().await;
    let begun = proxy.counts().connections - before;
    assert!(begun < 60, "{begun} connections were begun");
}

/// A backend without a server reports why there is no connection.
pub async fn a_backend_without_a_server_reports_why_there_is_no_connection<T: Tables>() {
    let server = Server::<T::Program>::start().await.unwrap();
    let backend = T::fresh().connect(&server.url()).await;
    server.kill().unwrap();
    let request = ask("job", LONG);
    let error = async || backend.acquire(&request).await.unwrap_err();
    eventually("it is noticed", async || !error().await.may_have_applied()).await;
    let error = error().await;
    assert_eq!(error.kind(), ErrorKind::ServiceUnavailable);
    assert!(error.to_string().contains("could not connect"), "{error}");
    server.restart().await.unwrap();
    granted(&backend, &request).await;
}

/// Connects. With short timeouts on a loaded machine, this may take several attempts.
async fn connect_with_retries<T: Tables>(config: &T::Config) -> T::Backend {
    loop {
        match T::open(config.clone()).await {
            Ok(backend) => return backend,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

/// Acquires under the same id until there is an answer, for the same reason.
async fn acquire_with_retries(backend: &impl LockBackend, request: &AcquireRequest) {
    eventually("it is granted", async || backend.acquire(request).await.is_ok()).await;
}
