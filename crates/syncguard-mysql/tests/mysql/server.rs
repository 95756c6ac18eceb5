//! A server that stops, crashes, ends its connections, pauses, or keeps statements waiting.

use std::time::Duration;

use syncguard_core::{ErrorKind, backend::LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{
        LONG, abandon_with_retries, ask, error_of, eventually, granted, is_locked, released,
    },
    server::MariadbServer,
    sql::server,
};

use crate::{Foreign, NOW_MS, Name, config, connect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fence_goes_back_over_ten_kills_under_load() {
    server::no_fence_goes_back_over_ten_kills_under_load::<Name>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soon_after_a_restart_locks_are_granted_again() {
    server::soon_after_a_restart_locks_are_granted_again::<Name>().await;
}

#[tokio::test]
async fn errors_of_pruning_and_of_the_schema_name_their_operation() {
    server::errors_of_pruning_and_of_the_schema_name_their_operation::<Name>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soon_after_losing_its_connections_a_client_is_granted_locks_again() {
    let others = "SELECT ID FROM information_schema.PROCESSLIST
        WHERE ID <> CONNECTION_ID() AND USER = 'root'";
    server::soon_after_losing_its_connections_a_client_is_granted_locks_again::<Name>(
        async |foreign| foreign.kill(others).await > 0,
    )
    .await;
}

/// Locks the row of the key from another connection, until that commits.
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
async fn an_acquire_that_waits_too_long_fails_and_changes_nothing() {
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
async fn a_dropped_acquire_continues_at_the_server_until_it_is_abandoned() {
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    for abandoned in [false, true] {
        let mut foreign = locked(&server, &backend).await;
        let request = ask("job", LONG);
        let acquire = backend.acquire(&request);
        assert!(tokio::time::timeout(Duration::from_millis(200), acquire).await.is_err());
        if abandoned {
            // The tombstone is a different row, so the abandon does not wait.
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

/// The connection is lost when the server crashes during the commit. Whether or not the grant was
/// made, it does not exist once it is abandoned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acquire_that_is_abandoned_after_a_crash_in_its_commit_holds_no_lock() {
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
            abandon_with_retries(&backend, request).await;
            assert!(!is_locked(&backend, request.key.as_str()).await);
            error_of(backend.acquire(request).await, ErrorKind::Aborted);
        }
    }
    assert!(unknown > 0, "no acquire was cut off");
}

#[tokio::test]
async fn a_holder_whose_server_was_paused_past_the_ttl_has_lost_the_lock() {
    server::a_holder_whose_server_was_paused_past_the_ttl_has_lost_the_lock::<Name>().await;
}
