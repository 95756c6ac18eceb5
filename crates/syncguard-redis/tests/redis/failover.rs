//! Replicas, and failover to one.

use std::time::Duration;

use syncguard_core::{
    ErrorKind,
    backend::{LockBackend, Severity},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_locked, key, lock_of, released, ttl,
    },
    server::{RedisSentinel, RedisServer},
};

use crate::{config, connect, safe};

async fn replica_of(primary: &RedisServer) -> RedisServer {
    let builder = safe().setting("replicaof", format!("127.0.0.1 {}", primary.port()));
    let replica = builder.start().await.unwrap();
    eventually("the replica is in step", async || {
        let info = primary.command(&["INFO", "replication"]).await.unwrap();
        info.contains("state=online")
    })
    .await;
    replica
}

/// Starts a primary, a replica and their sentinel. On a busy machine, the sentinel may consider the
/// primary dead soon after it began to monitor it, when there is no replica to fail over to.
async fn sentinel() -> RedisSentinel {
    for _ in 0..2 {
        if let Ok(servers) = RedisSentinel::start().await {
            return servers;
        }
    }
    RedisSentinel::start().await.unwrap()
}

/// Waits until the replica acknowledges in time.
async fn until_acknowledged(backend: &RedisBackend) {
    eventually("the replica acknowledges", async || {
        let request = ask("warm-up", LONG);
        let acquired = backend.acquire(&request).await.is_ok();
        acquired && released(backend, &request).await
    })
    .await;
}

#[tokio::test]
async fn a_grant_acknowledged_by_too_few_replicas_is_released() {
    let primary = safe().setting("repl-diskless-sync-delay", "0").start().await.unwrap();
    let replica = replica_of(&primary).await;
    let waiting = config(&primary.url()).wait_for_replicas(1, Duration::from_millis(300));
    let backend = RedisBackend::connect(waiting).await.unwrap();
    until_acknowledged(&backend).await;
    let request = ask("job", LONG);
    assert_eq!(granted(&backend, &request).await.fence.number(), 1);
    assert!(extended(&backend, &request).await);
    replica.pause().unwrap();
    let error = backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::ServiceUnavailable && error.may_have_applied(), "{error:?}");
    assert!(released(&backend, &request).await);
    let acquire = backend.acquire(&ask("job", LONG)).await;
    let error = error_of(acquire, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.to_string().contains("0 of 1"), "{error}");
    assert!(!is_locked(&backend, "job").await, "it was given back");
    replica.resume().unwrap();
    until_acknowledged(&backend).await;
}

#[tokio::test]
async fn replicas_that_grants_do_not_wait_for_are_reported() {
    let primary = safe().setting("repl-diskless-sync-delay", "0").start().await.unwrap();
    let _replica = replica_of(&primary).await;
    let is_reported = async |config: syncguard_redis::RedisConfig| {
        let findings = RedisBackend::connect(config).await.unwrap().check().await.unwrap();
        findings.into_iter().any(|finding| {
            finding.severity == Severity::Warning && finding.setting.contains("not waited for")
        })
    };
    assert!(is_reported(config(&primary.url())).await);
    assert!(
        !is_reported(config(&primary.url()).wait_for_replicas(1, Duration::from_secs(1))).await
    );
}

/// The primary becomes a replica without interrupting the connection.
#[tokio::test]
async fn a_server_that_turns_read_only_is_unavailable_until_it_is_the_primary_again() {
    let (server, other) = (safe().start().await.unwrap(), safe().start().await.unwrap());
    let backend = connect(&server.url()).await;
    granted(&backend, &ask("warm-up", LONG)).await;
    let port = other.port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    let refused = server.command(&["SET", "x", "y"]).await.unwrap_err().to_string();
    assert!(refused.contains("READONLY"), "{refused}");
    let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::ServiceUnavailable);
    assert!(error.is_retryable(), "{error:?}");
    server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    eventually("the client serves again", async || {
        backend.acquire(&ask("job", LONG)).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_client_follows_the_sentinel_to_the_new_primary() {
    let servers = sentinel().await;
    let url = format!(
        "redis-sentinel://{}?sentinelServiceName={}",
        servers.sentinel().address(),
        RedisSentinel::SERVICE
    );
    let waiting = config(&url).wait_for_replicas(1, Duration::from_secs(2));
    let backend = RedisBackend::connect(waiting).await.unwrap();
    let request = ask("job", LONG);
    assert_eq!(granted(&backend, &request).await.fence.number(), 1);
    servers.primary().kill().unwrap();
    servers.wait_for_failover().await.unwrap();
    // The new primary has no replica to wait for.
    let backend = connect(&url).await;
    eventually("the client finds the new primary", async || {
        backend.is_locked(&key("job")).await.is_ok()
    })
    .await;
    assert!(extended(&backend, &request).await, "the grant was waited for, so it is known there");
    assert!(released(&backend, &request).await);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 2);
}

#[tokio::test]
async fn a_client_connected_before_a_failover_works_after_it() {
    let servers = sentinel().await;
    let url = format!(
        "redis-sentinel://{}?sentinelServiceName={}",
        servers.sentinel().address(),
        RedisSentinel::SERVICE
    );
    let backend = connect(&url).await;
    granted(&backend, &ask("job", LONG)).await;
    servers.primary().kill().unwrap();
    assert!(backend.acquire(&ask("other", LONG)).await.is_err(), "the primary is gone");
    servers.wait_for_failover().await.unwrap();
    eventually("the client serves again", async || {
        backend.acquire(&ask("other", LONG)).await.is_ok()
    })
    .await;
}
