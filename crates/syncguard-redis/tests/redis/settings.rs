//! Server settings that would break a guarantee.

use syncguard_core::UnsafeSettings;
use syncguard_core::{
    ErrorKind,
    backend::{Finding, LockBackend, Severity},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, granted, is_locked, key, released},
    server::RedisServer,
};

use crate::{config, connect, safe};

/// Returns the unsafe settings that `check` reports. Asserts that connecting with the strict policy
/// is refused because of them.
async fn unsafe_findings(server: &RedisServer) -> Vec<Finding> {
    let strict = config(&server.url()).unsafe_settings(UnsafeSettings::Refuse);
    let error = error_of(RedisBackend::connect(strict).await, ErrorKind::Unsupported);
    let findings = connect(&server.url()).await.check().await.unwrap();
    let found: Vec<_> = findings.into_iter().filter(|f| f.severity == Severity::Unsafe).collect();
    for finding in &found {
        assert!(error.to_string().contains(finding.setting.as_ref()), "{error} {finding}");
    }
    found
}

async fn acquire_and_release(backend: &RedisBackend) -> u64 {
    let request = ask("job", LONG);
    let fence = granted(backend, &request).await.fence.number();
    assert!(released(backend, &request).await);
    fence
}

#[tokio::test]
async fn a_safe_server_is_accepted_by_the_strict_policy() {
    let server = safe().setting("appendfsync", "always").start().await.unwrap();
    let strict = config(&server.url()).unsafe_settings(UnsafeSettings::Refuse);
    assert_eq!(RedisBackend::connect(strict).await.unwrap().check().await.unwrap(), []);
}

#[tokio::test]
async fn a_server_with_only_snapshots_loses_fences_and_is_refused() {
    let server = RedisServer::builder().setting("appendonly", "no").start().await.unwrap();
    let backend = connect(&server.url()).await;
    for number in 1..=5 {
        assert_eq!(acquire_and_release(&backend).await, number);
    }
    server.kill().unwrap();
    server.restart().await.unwrap();
    eventually("the client is connected again", async || {
        backend.is_locked(&key("job")).await.is_ok()
    })
    .await;
    assert_eq!(acquire_and_release(&backend).await, 1, "the fence went back");
    assert_eq!(unsafe_findings(&server).await[0].setting, "appendonly no");
}

#[tokio::test]
async fn new_counters_that_start_at_the_server_time_continue_above_lost_ones() {
    let server = RedisServer::builder().setting("save", "").start().await.unwrap();
    let backend = RedisBackend::connect(config(&server.url()).seed_new_counters()).await.unwrap();
    let before = acquire_and_release(&backend).await;
    server.kill().unwrap();
    server.restart().await.unwrap();
    eventually("the client is connected again", async || {
        backend.is_locked(&key("job")).await.is_ok()
    })
    .await;
    assert_eq!(server.command(&["DBSIZE"]).await.unwrap(), "0", "all is lost");
    assert!(acquire_and_release(&backend).await > before);
}

#[tokio::test]
async fn a_server_that_evicts_drops_live_locks_and_is_refused() {
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let server = safe().setting("maxmemory-policy", policy).start().await.unwrap();
        let backend = connect(&server.url()).await;
        for number in 0..60 {
            granted(&backend, &ask(&format!("k{number}"), LONG)).await;
        }
        server.command(&["CONFIG", "SET", "maxmemory", "3mb"]).await.unwrap();
        let fill = "for i = 1, 4000 do redis.pcall('SET', 'x' .. i, string.rep('x', 1000)) end";
        // It fails in the end if only locks may be evicted and none is left.
        server.command(&["EVAL", fill, "0"]).await.ok();
        let mut lost = 0;
        for number in 0..60 {
            lost += usize::from(!is_locked(&backend, &format!("k{number}")).await);
        }
        assert!(lost > 0, "{policy} dropped no lock");
        assert_eq!(unsafe_findings(&server).await[0].setting, format!("maxmemory-policy {policy}"));
    }
}

#[tokio::test]
async fn a_replica_is_refused() {
    let primary = safe().start().await.unwrap();
    let port = primary.port().to_string();
    let replica = safe().setting("replicaof", format!("127.0.0.1 {port}")).start().await.unwrap();
    assert!(
        unsafe_findings(&replica).await.iter().any(|finding| finding.setting == "role replica")
    );
    let error = connect(&replica.url()).await.acquire(&ask("job", LONG)).await;
    error_of(error, ErrorKind::ServiceUnavailable);
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_without_the_cluster_layout() {
    let server = safe().setting("cluster-enabled", "yes").start().await.unwrap();
    let found = unsafe_findings(&server).await;
    assert!(
        found.iter().any(|finding| finding.setting.starts_with("cluster-enabled")),
        "{found:?}"
    );
    let error = connect(&server.url()).await.acquire(&ask("job", LONG)).await.unwrap_err();
    assert!(
        !error.may_have_applied() || error.kind() == ErrorKind::ServiceUnavailable,
        "{error:?}"
    );
}

#[tokio::test]
async fn a_setting_that_the_server_hides_is_unknown() {
    let server = safe().start().await.unwrap();
    let rights = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">secret",
        "~syncguard:*",
        "&syncguard:*",
        "+@all",
        "-config",
    ];
    server.command(&rights).await.unwrap();
    let url = server.url().replace("redis://", "redis://app:secret@");
    let backend = connect(&url).await;
    let findings = backend.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.setting == "appendfsync"), "{findings:?}");
    assert!(findings.iter().all(|finding| finding.severity == Severity::Unknown));
    acquire_and_release(&backend).await;
}

#[tokio::test]
async fn insufficient_credentials_and_permissions_are_typed_errors() {
    let server = safe().setting("requirepass", "secret").start().await;
    // The test kit may be unable to connect to such a server, so a user without permissions is used
    // instead.
    drop(server);
    let server = safe().start().await.unwrap();
    server
        .command(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-set"])
        .await
        .unwrap();
    let url =
        |credentials: &str| server.url().replace("redis://", &format!("redis://{credentials}@"));
    error_of(RedisBackend::connect(config(&url("app:wrong"))).await, ErrorKind::AuthFailed);
    let backend = connect(&url("app:secret")).await;
    let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::AuthFailed);
    assert!(!error.may_have_applied() && !is_locked(&backend, "job").await);
    server.command(&["ACL", "SETUSER", "app", "+set", "resetchannels"]).await.unwrap();
    let backend = connect(&url("app:secret")).await;
    acquire_and_release(&backend).await;
}
