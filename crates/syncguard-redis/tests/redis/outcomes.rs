//! An error that reports "not applied" is true: whatever fails after a grant was stored, no error
//! denies the grant.

use std::time::Duration;

use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireRequest, LockBackend},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, key},
    proxy::{Flow, Proxy, Times, containing},
    server::{RedisCluster, RedisServer},
};
use tokio::task::JoinSet;

use crate::{config, safe};

const TIMEOUT: Duration = Duration::from_millis(500);

async fn started() -> (RedisServer, Proxy, RedisBackend) {
    let server = safe().setting("enable-debug-command", "yes").start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = server.url_through(proxy.address());
    let backend = RedisBackend::connect(config(&url).command_timeout(TIMEOUT)).await.unwrap();
    granted(&backend, &ask("warm-up", LONG)).await;
    (server, proxy, backend)
}

async fn stored(server: &RedisServer, request: &AcquireRequest) -> bool {
    let name = format!("syncguard:{}", request.key.as_str());
    let record = server.command(&["GET", &name]).await.unwrap();
    record.contains(request.lock_id.as_str())
}

/// Asserts that the grant is stored and that the error of its acquire does not deny it.
async fn assert_may_have_applied(server: &RedisServer, request: &AcquireRequest, error: &Error) {
    assert!(stored(server, request).await, "the grant is stored");
    assert!(error.may_have_applied(), "{error:?}");
}

#[tokio::test]
async fn a_lost_reply_leaves_the_outcome_unknown_by_hash_and_by_body() {
    let (server, proxy, backend) = started().await;
    for (name, command) in [("hash", "EVALSHA"), ("body", "\r\nEVAL\r\n")] {
        if name == "body" {
            server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
        }
        proxy.cut_after(containing(command), Times::Next(1));
        let cuts = proxy.counts().cut_after;
        let request = ask(name, LONG);
        let error = backend.acquire(&request).await.unwrap_err();
        assert_eq!(proxy.counts().cut_after, cuts + 1, "the reply was lost");
        assert_may_have_applied(&server, &request, &error).await;
        eventually("it serves again", async || backend.is_locked(&key("k")).await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_reply_after_the_grant_leaves_the_outcome_unknown() {
    let (server, proxy, backend) = started().await;
    proxy.black_hole(Flow::Replies);
    let request = ask("job", LONG);
    let error = backend.acquire(&request).await.unwrap_err();
    assert!(proxy.counts().swallowed > 0, "the reply was lost");
    assert_may_have_applied(&server, &request, &error).await;
}

#[tokio::test]
async fn a_connection_cut_while_the_reply_is_in_flight_leaves_the_outcome_unknown() {
    let (server, proxy, backend) = started().await;
    proxy.black_hole(Flow::Replies);
    let (caller, request) = (backend.clone(), ask("job", LONG));
    let asked = request.clone();
    let acquire = tokio::spawn(async move { caller.acquire(&asked).await });
    eventually("the grant is stored", async || stored(&server, &request).await).await;
    assert!(proxy.cut_all().await > 0, "it is cut");
    let error = acquire.await.unwrap().unwrap_err();
    assert_may_have_applied(&server, &request, &error).await;
}

/// The grant of the id is stored, and a reply arrives, but cannot be read.
#[tokio::test]
async fn a_grant_whose_record_cannot_be_read_leaves_the_outcome_unknown() {
    let (server, _proxy, backend) = started().await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    let damage = "local record = redis.call('GET', KEYS[1]) \
        return redis.call('SET', KEYS[1], (record:gsub('\"fence\":\"%d+\"', '\"fence\":\"x\"')))";
    server.command(&["EVAL", damage, "1", "syncguard:job"]).await.unwrap();
    let error = backend.acquire(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    assert_may_have_applied(&server, &request, &error).await;
}

/// The first reply is lost, and the server refuses the second attempt. That reply is only about the
/// second attempt, which changed nothing. But the driver may pass one reply to all commands in
/// flight, so the outcome is reported as unknown.
#[tokio::test]
async fn a_server_that_turned_read_only_after_the_grant_leaves_the_outcome_unknown() {
    let (server, proxy, backend) = started().await;
    let other = safe().start().await.unwrap();
    proxy.cut_after(containing("EVALSHA"), Times::Next(1));
    let request = ask("job", LONG);
    let error = backend.acquire(&request).await.unwrap_err();
    assert_may_have_applied(&server, &request, &error).await;
    let port = other.port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    let mut last = None;
    eventually("the server refuses to write", async || {
        last = backend.acquire(&ask("fresh", LONG)).await.err();
        last.as_ref().is_some_and(|error| error.to_string().contains("replica"))
    })
    .await;
    assert!(last.unwrap().may_have_applied());
}

#[tokio::test]
async fn a_server_out_of_memory_returns_the_stored_grant_and_denies_only_unstored_ones() {
    let (server, proxy, backend) = started().await;
    proxy.cut_after(containing("EVALSHA"), Times::Next(1));
    let request = ask("job", LONG);
    let error = backend.acquire(&request).await.unwrap_err();
    assert_may_have_applied(&server, &request, &error).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let fresh = ask("fresh", LONG);
    let mut denied = None;
    eventually("the server refuses for want of memory", async || {
        denied = backend.acquire(&fresh).await.err();
        denied.as_ref().is_some_and(|error| error.to_string().contains("memory"))
    })
    .await;
    assert!(!denied.unwrap().may_have_applied() && !stored(&server, &fresh).await);
    assert_eq!(granted(&backend, &request).await.fence.number(), 1, "the stored grant");
}

#[tokio::test]
async fn a_cluster_that_goes_down_after_the_grant_leaves_the_outcome_unknown() {
    let cluster = RedisCluster::start_with(safe()).await.unwrap();
    let url = format!("redis-cluster://{}", cluster.addresses()[0]);
    let backend = RedisBackend::connect(config(&url).command_timeout(TIMEOUT)).await.unwrap();
    granted(&backend, &ask("job", LONG)).await;
    for node in cluster.nodes() {
        node.command(&["CLUSTER", "DELSLOTS", "0"]).await.unwrap();
    }
    let mut refused = None;
    eventually("the cluster is down", async || {
        refused = backend.acquire(&ask("other", LONG)).await.err();
        refused.as_ref().is_some_and(|error| error.to_string().contains("cluster is down"))
    })
    .await;
    assert!(refused.unwrap().may_have_applied(), "all that is in flight gets this reply");
}

/// While a server loads its data, connections to it cannot be used, so nothing is sent.
#[tokio::test]
async fn a_server_that_is_loading_its_data_is_unavailable() {
    let (server, _proxy, backend) = started().await;
    server.command(&["DEBUG", "POPULATE", "20000"]).await.unwrap();
    server.command(&["CONFIG", "SET", "key-load-delay", "200"]).await.unwrap();
    server
        .command(&["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"])
        .await
        .unwrap();
    let port = server.port().to_string();
    let reloading = tokio::process::Command::new("redis-cli")
        .args(["-p", &port, "DEBUG", "RELOAD"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the server is loading", async || {
        let info = server.command(&["INFO", "persistence"]).await.unwrap_or_default();
        info.contains("loading:1")
    })
    .await;
    let request = ask("job", LONG);
    let error = backend.acquire(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error:?}");
    drop(reloading);
}

/// Connections are cut at many positions of a request and of a reply, while calls are sent
/// together.
#[tokio::test]
async fn wherever_a_connection_is_cut_no_error_denies_a_stored_grant() {
    const CALLS: usize = 6;
    let (server, proxy, backend) = started().await;
    let (mut torn, mut denied, mut doubted) = (0, 0, 0);
    for (round, bytes) in (0..3_000).step_by(75).enumerate() {
        for flow in [Flow::Requests, Flow::Replies] {
            eventually("it serves", async || backend.is_locked(&key("k")).await.is_ok()).await;
            let before = proxy.counts().limited;
            proxy.limit(flow, bytes);
            let mut calls = JoinSet::new();
            for call in 0..CALLS {
                let request = ask(&format!("k{round}-{flow:?}-{call}"), LONG);
                let backend = backend.clone();
                calls.spawn(async move { (backend.acquire(&request).await, request) });
            }
            for (outcome, request) in calls.join_all().await {
                let Err(error) = outcome else { continue };
                match error.may_have_applied() {
                    true => doubted += 1,
                    false => {
                        denied += 1;
                        assert!(!stored(&server, &request).await, "{error:?}");
                    }
                }
            }
            torn += proxy.counts().limited - before;
            proxy.heal().await.unwrap();
        }
    }
    assert!(torn > 20 && doubted > 20, "{torn} were torn, {doubted} in doubt, {denied} denied");
}
