//! Connections that are lost silently, hang, or are too few.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::postgres::PgPoolOptions;
use syncguard_core::{AcquireRequest, ErrorKind, LockBackend};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, is_locked, lock_of, ttl},
    proxy::Proxy,
    server::{PgBouncer, PostgresServer},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{Foreign, Names, connect, shared};

const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

/// Connects. With short timeouts on a loaded machine, this may take several attempts.
async fn connect_with_retries(config: &PostgresConfig) -> PostgresBackend {
    loop {
        match PostgresBackend::connect(config.clone()).await {
            Ok(backend) => return backend,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

/// Acquires under the same id until there is an answer, for the same reason.
async fn acquire_with_retries(backend: &PostgresBackend, request: &AcquireRequest) {
    eventually("it is granted", async || backend.acquire(request).await.is_ok()).await;
}

/// A network that has forgotten an idle connection drops what is sent over it. The statement would
/// wait for its answer until its timeout, and fail.
#[tokio::test]
async fn a_connection_that_the_network_has_forgotten_is_replaced_before_it_is_used() {
    let server = shared().await;
    let pooler = PgBouncer::before(server.address()).start().await.unwrap();
    for pooled in [false, true] {
        let upstream = if pooled { pooler.address() } else { server.address() };
        let proxy = Proxy::start(upstream).await.unwrap();
        proxy.forget_idle(Duration::from_secs(3));
        let address = proxy.address();
        let url = if pooled { pooler.url_through(address) } else { server.url_through(address) };
        let config = Names::fresh().config(&url).without_listening();
        let config = if pooled { config.pgbouncer() } else { config };
        let backend = PostgresBackend::connect(config).await.unwrap();
        granted(&backend, &ask("job", LONG)).await;
        let connections = proxy.counts().connections;
        sleep(Duration::from_secs(6)).await;
        granted(&backend, &ask("next job", LONG)).await;
        let counts = proxy.counts();
        assert_eq!(counts.forgotten, 1, "a forgotten connection was tried");
        assert_eq!(counts.connections, connections + 1, "and replaced");
    }
}

/// The server waits for a missing standby, and its statement timeout does not end that wait.
#[tokio::test]
async fn hanging_commits_leave_no_more_sessions_than_the_pool_size() {
    const SIZE: u32 = 3;
    let server = PostgresServer::start().await.unwrap();
    let mut foreign = Foreign::open(&server.url()).await;
    let config = |config: PostgresConfig| config.statement_timeout(SHORT_TIMEOUT);
    let own = Names::fresh().config(&server.url()).max_connections(SIZE);
    let pool = PgPoolOptions::new().max_connections(SIZE).connect(&server.url()).await.unwrap();
    let names = Names::fresh();
    let callers = PostgresConfig::from_pool(pool).tables(&names.locks, &names.counters);
    for config in [config(own), config(callers)] {
        let backend = connect_with_retries(&config).await;
        foreign.run("ALTER SYSTEM SET synchronous_standby_names = 'missing'").await;
        foreign.run("SELECT pg_reload_conf()").await;
        let Hung { most, unknown, unchanged } = hang(&backend, &server).await;
        assert!(unknown >= 2, "{unknown} outcomes are unknown");
        // One more connection listens, and one ends sessions.
        assert!(most <= i64::from(SIZE) + 2, "{most} sessions");
        foreign.run("ALTER SYSTEM RESET synchronous_standby_names").await;
        foreign.run("SELECT pg_reload_conf()").await;
        eventually("locks are granted again", async || {
            backend.acquire(&ask("after", LONG)).await.is_ok()
        })
        .await;
        for key in unchanged {
            assert!(!is_locked(&backend, &key).await, "what was not applied shows: {key}");
        }
        drop(backend);
        eventually("it is disconnected", async || sessions(&mut foreign).await <= i64::from(SIZE))
            .await;
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
async fn hang(backend: &PostgresBackend, server: &PostgresServer) -> Hung {
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
    let mut foreign = Foreign::open(&server.url()).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("a commit hangs", async || foreign.number(waiting).await > 0).await;
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(6) {
        most = most.max(sessions(&mut foreign).await);
        sleep(Duration::from_millis(10)).await;
    }
    tasks.shutdown().await;
    let unchanged = std::mem::take(&mut *unchanged.lock().unwrap());
    Hung { most, unknown: unknown.load(SeqCst), unchanged }
}

/// Counts the sessions of clients other than this one and that of the test.
async fn sessions(foreign: &mut Foreign) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND application_name = 'syncguard'";
    foreign.number(sql).await
}

#[tokio::test]
async fn an_acquire_that_would_wait_too_long_is_rejected_and_changes_nothing() {
    let server = shared().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let names = Names::fresh();
    let config = names.config(&server.url_through(proxy.address())).max_connections(2);
    let backend =
        PostgresBackend::connect(config.connect_timeout(Duration::from_millis(400))).await.unwrap();
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
    let elsewhere = names.connect(&server.url()).await;
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
#[tokio::test]
async fn a_server_that_was_paused_is_not_flooded_and_serves_the_holders() {
    const HELD: usize = 200;
    let server = PostgresServer::start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let names = Names::fresh();
    let config = names.config(&server.url_through(proxy.address())).without_listening();
    let config = config.connect_timeout(SHORT_TIMEOUT).statement_timeout(SHORT_TIMEOUT);
    let backend = connect_with_retries(&config).await;
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

#[tokio::test]
async fn a_backend_without_a_server_reports_why_there_is_no_connection() {
    let server = PostgresServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
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

#[tokio::test]
async fn an_address_may_contain_an_ipv6_literal() {
    let server = PostgresServer::builder().setting("listen_addresses", "127.0.0.1,::1").start();
    let server = server.await.unwrap();
    let backend = connect(&server.url().replace("127.0.0.1", "[::1]")).await;
    granted(&backend, &ask("job", LONG)).await;
}
