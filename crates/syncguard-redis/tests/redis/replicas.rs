//! Grants that are stored but cannot be confirmed by replicas.

use std::time::Duration;

use syncguard_core::{Error, ErrorKind, LockManager, backend::LockBackend};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, is_locked, ttl},
    proxy::Proxy,
    server::RedisServer,
};

use crate::{config, safe};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);
const REPLICA_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Starts a server without replicas, whose user has all permissions. A grant that waits for a
/// replica is stored, and the connection then waits until the timeout.
async fn started() -> (RedisServer, Proxy, String) {
    let server = safe().start().await.unwrap();
    allow(&server, "+@all").await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = server.url_through(proxy.address()).replace("redis://", "redis://app:secret@");
    (server, proxy, url)
}

async fn allow(server: &RedisServer, rights: &str) {
    let user = ["ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", rights];
    server.command(&user).await.unwrap();
}

async fn waiting(url: &str, replicas: Duration) -> RedisBackend {
    let config = config(url).command_timeout(COMMAND_TIMEOUT).connect_timeout(COMMAND_TIMEOUT);
    RedisBackend::connect(config.wait_for_replicas(1, replicas)).await.unwrap()
}

async fn stored(server: &RedisServer) -> bool {
    server.command(&["EXISTS", "syncguard:job"]).await.unwrap() == "1"
}

/// Waits until the grant is stored and the connection waits for replicas.
async fn until_waiting_for_replicas(server: &RedisServer) {
    eventually("the grant is stored and waited for", async || {
        stored(server).await
            && server.command(&["CLIENT", "LIST"]).await.unwrap().contains("cmd=wait")
    })
    .await;
}

fn assert_uncounted(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error:?}");
    assert!(error.to_string().contains("unknown how many replicas"), "{error}");
}

#[tokio::test]
async fn a_user_without_permission_to_wait_is_refused_on_connecting() {
    let (server, _proxy, url) = started().await;
    allow(&server, "-wait").await;
    let waits = config(&url).wait_for_replicas(1, REPLICA_TIMEOUT);
    let error = error_of(RedisBackend::connect(waits).await, ErrorKind::AuthFailed);
    assert!(error.to_string().contains("NOPERM"), "{error}");
    RedisBackend::connect(config(&url)).await.unwrap();
}

#[tokio::test]
async fn a_grant_whose_replicas_may_not_be_counted_is_released() {
    let (server, _proxy, url) = started().await;
    let backend = waiting(&url, REPLICA_TIMEOUT).await;
    allow(&server, "-wait").await;
    let request = ask("job", LONG);
    let error = backend.acquire(&request).await.unwrap_err();
    assert_uncounted(&error);
    let granted = server.command(&["GET", "syncguard:fence:syncguard:job"]).await.unwrap();
    assert_eq!(granted, "1", "it was granted");
    assert!(!error.may_have_applied() && !stored(&server).await, "and given back");
}

#[tokio::test]
async fn a_grant_that_can_be_neither_counted_nor_released_may_have_applied() {
    let (server, _proxy, url) = started().await;
    let backend = waiting(&url, REPLICA_TIMEOUT).await;
    allow(&server, "-wait").await;
    allow(&server, "-del").await;
    let error = backend.acquire(&ask("job", LONG)).await.unwrap_err();
    assert_uncounted(&error);
    assert!(stored(&server).await, "it is still stored");
    assert!(error.may_have_applied(), "{error:?}");
}

/// The lock layer retries, and then abandons the id, which frees the key as soon as the abandon is
/// answered.
#[tokio::test]
async fn a_lock_whose_grant_is_uncertain_is_free_long_before_its_ttl() {
    let (server, proxy, url) = started().await;
    let locks = LockManager::new(waiting(&url, REPLICA_TIMEOUT).await);
    let attempt = tokio::spawn(locks.lock("job").ttl(ttl(LONG)).try_acquire());
    until_waiting_for_replicas(&server).await;
    proxy.refuse().await;
    assert!(proxy.cut_all().await > 0, "it is cut");
    assert!(attempt.await.unwrap().is_err());
    assert!(stored(&server).await, "it is still stored");
    proxy.admit().await.unwrap();
    eventually("the key is free", async || !stored(&server).await).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_between_the_grant_and_the_count_leaves_no_lock() {
    let (server, proxy, url) = started().await;
    let backend = waiting(&url, REPLICA_TIMEOUT).await;
    let caller = backend.clone();
    let acquire = tokio::spawn(async move { caller.acquire(&ask("job", LONG)).await });
    until_waiting_for_replicas(&server).await;
    assert!(proxy.cut_all().await > 0, "it is cut");
    let error = acquire.await.unwrap().unwrap_err();
    assert!(error.may_have_applied() || !stored(&server).await, "{error:?}");
}

/// The reply to the grant has arrived; only the count is missing when the connection is lost and
/// cannot be reopened.
#[tokio::test]
async fn a_grant_that_cannot_be_released_while_disconnected_is_uncertain_and_soon_free() {
    let (server, proxy, url) = started().await;
    let backend = waiting(&url, REPLICA_TIMEOUT).await;
    let (caller, request) = (backend.clone(), ask("job", LONG));
    let asked = request.clone();
    let acquire = tokio::spawn(async move { caller.acquire(&asked).await });
    until_waiting_for_replicas(&server).await;
    proxy.refuse().await;
    assert!(proxy.cut_all().await > 0, "it is cut");
    let error = acquire.await.unwrap().unwrap_err();
    assert!(stored(&server).await, "it is still stored");
    assert!(error.may_have_applied(), "{error:?}");
    proxy.admit().await.unwrap();
    eventually("the lock layer's clean-up is answered", async || {
        backend.abandon(request.lock_id, &request.key).await.is_ok()
    })
    .await;
    assert!(!stored(&server).await);
}

/// The server does not reply to the count within the command timeout.
#[tokio::test]
async fn a_count_that_times_out_leaves_the_outcome_unknown() {
    let (server, _proxy, url) = started().await;
    let backend = waiting(&url, REPLICA_TIMEOUT).await;
    let (caller, request) = (backend.clone(), ask("job", LONG));
    let asked = request.clone();
    let acquire = tokio::spawn(async move { caller.acquire(&asked).await });
    until_waiting_for_replicas(&server).await;
    server.pause().unwrap();
    let error = acquire.await.unwrap().unwrap_err();
    server.resume().unwrap();
    assert!(error.may_have_applied(), "{error:?}");
    eventually("it is called off", async || {
        backend.abandon(request.lock_id, &request.key).await.is_ok()
    })
    .await;
    assert!(!is_locked(&backend, "job").await);
}

#[tokio::test]
async fn an_extend_that_cannot_be_counted_may_have_applied() {
    let (server, _proxy, url) = started().await;
    let plain = RedisBackend::connect(config(&url)).await.unwrap();
    let backend = waiting(&url, Duration::from_millis(50)).await;
    let request = ask("job", LONG);
    syncguard_testkit::operations::granted(&plain, &request).await;
    let lock = syncguard_testkit::operations::lock_of(&request);
    allow(&server, "-wait").await;
    let error = backend.extend(&lock, ttl(2 * LONG)).await.unwrap_err();
    assert_uncounted(&error);
    let left: u64 = server.command(&["PTTL", "syncguard:job"]).await.unwrap().parse().unwrap();
    assert!(left > 65_000, "it was extended: {left}");
    assert!(error.may_have_applied(), "{error:?}");
}
