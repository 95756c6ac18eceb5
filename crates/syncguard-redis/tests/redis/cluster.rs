//! A cluster whose slots move.

use syncguard_core::{
    ErrorKind, LockManager,
    backend::{AcquireOutcome, LockBackend, LockRef, WakeUp},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, eventually, extended, granted, is_contended, is_locked, key, lock_of, released,
        ttl,
    },
    server::RedisCluster,
};

use crate::{config, connect, safe};

async fn started() -> (RedisCluster, RedisBackend) {
    let cluster = RedisCluster::start_with(safe()).await.unwrap();
    let backend = connect_to(&cluster).await;
    (cluster, backend)
}

async fn connect_to(cluster: &RedisCluster) -> RedisBackend {
    let url = format!("redis-cluster://{}", cluster.addresses()[0]);
    RedisBackend::connect(config(&url)).await.unwrap()
}

/// Returns the slot of the lock with this key, and a node that does not serve it.
async fn slot_and_target(cluster: &RedisCluster, text: &str) -> (u16, usize) {
    let slot = cluster.slot_of(&format!("{{syncguard:{text}}}")).await.unwrap();
    let owner = cluster.owner_of(slot).await.unwrap();
    (slot, (owner + 1) % cluster.nodes().len())
}

/// Requests a lock whose slot is being migrated. The server replies TRYAGAIN while some of the
/// names are on the old node, and ASK when none is. Whatever the reply, nothing is granted, and the
/// error reports that with certainty.
async fn assert_not_granted(backend: &RedisBackend) {
    for _ in 0..5 {
        match backend.acquire(&ask("job", LONG)).await {
            Ok(AcquireOutcome::Contended { .. }) => {}
            Ok(AcquireOutcome::Granted(grant)) => panic!("granted to two: {grant:?}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error:?}");
                assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_lock_whose_slot_moves_is_never_lost_nor_granted_twice() {
    let (cluster, mine) = started().await;
    let theirs = connect_to(&cluster).await;
    let request = ask("job", LONG);
    assert_eq!(granted(&mine, &request).await.fence.number(), 1);
    let (slot, target) = slot_and_target(&cluster, "job").await;
    let migration = cluster.migrate(slot, target).await.unwrap();
    assert!(extended(&mine, &request).await, "its names are still where they were");
    assert_not_granted(&theirs).await;
    migration.move_keys().await.unwrap();
    assert_not_granted(&theirs).await;
    migration.finish().await.unwrap();
    assert_eq!(cluster.owner_of(slot).await.unwrap(), target, "the slot has moved");
    assert!(extended(&mine, &request).await, "MOVED is followed at once");
    assert!(is_contended(&theirs, "job").await);
    assert!(released(&mine, &request).await);
    assert_eq!(granted(&theirs, &ask("job", LONG)).await.fence.number(), 2);
}

#[tokio::test]
async fn an_acquire_after_its_abandon_is_refused_on_a_cluster() {
    let (cluster, mine) = started().await;
    let theirs = connect_to(&cluster).await;
    for round in 0..50 {
        let request = ask(&format!("k{round}"), LONG);
        theirs.abandon(request.lock_id, &request.key).await.unwrap();
        let error = mine.acquire(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Aborted, "{error:?}");
        assert!(!is_locked(&mine, request.key.as_str()).await);
    }
}

/// The index is written after the grant, and may be lost with the client.
#[tokio::test]
async fn a_lost_index_affects_only_requests_without_a_key() {
    let (cluster, mine) = started().await;
    let request = ask("job", LONG);
    granted(&mine, &request).await;
    let index = format!("syncguard:id:{}", request.lock_id.as_str());
    assert_eq!(cluster.nodes()[0].command(&["-c", "DEL", &index]).await.unwrap(), "1");
    let by_id: LockRef = request.lock_id.into();
    let outcome = mine.extend(&by_id, ttl(LONG)).await.unwrap();
    assert!(matches!(outcome, syncguard_core::backend::ExtendOutcome::NotHeld(_)));
    assert!(extended(&mine, &request).await, "the key finds it, and writes the index again");
    let outcome = mine.extend(&by_id, ttl(LONG)).await.unwrap();
    assert!(matches!(outcome, syncguard_core::backend::ExtendOutcome::Extended { .. }));
    assert_eq!(
        mine.release(&lock_of(&request)).await.unwrap(),
        syncguard_core::ReleaseOutcome::Released
    );
    assert_eq!(cluster.nodes()[0].command(&["-c", "EXISTS", &index]).await.unwrap(), "0");
}

#[tokio::test]
async fn a_waiter_on_a_cluster_is_woken_after_its_slot_has_moved() {
    let (cluster, mine) = started().await;
    assert_eq!(mine.capabilities().wake_up, WakeUp::InTurn);
    let theirs = connect_to(&cluster).await;
    let (slot, target) = slot_and_target(&cluster, "job").await;
    let request = ask("job", LONG);
    granted(&theirs, &request).await;
    let locks = LockManager::new(mine);
    let wait = tokio::spawn(locks.lock("job").wait(LONG).acquire());
    let channel = "{syncguard:job}:released";
    eventually("the waiter is subscribed", async || {
        let mut counts = String::new();
        for node in cluster.nodes() {
            counts += &node.command(&["PUBSUB", "SHARDNUMSUB", channel]).await.unwrap();
        }
        counts.contains('1')
    })
    .await;
    cluster.migrate(slot, target).await.unwrap().finish().await.unwrap();
    assert!(released(&theirs, &request).await);
    let guard = wait.await.unwrap().unwrap();
    assert_eq!(guard.fence().unwrap().number(), 2);
}

#[tokio::test]
async fn a_single_server_address_on_a_cluster_is_an_error_that_names_the_right_scheme() {
    let (cluster, _) = started().await;
    let owner = cluster.owner_of(cluster.slot_of("syncguard:job").await.unwrap()).await.unwrap();
    let backend = connect(&cluster.nodes()[owner].url()).await;
    let error = backend.acquire(&ask("job", LONG)).await.unwrap_err();
    assert!(error.to_string().contains("redis-cluster://"), "{error}");
    assert!(!error.may_have_applied());
    assert_eq!(backend.lookup(&key("job").into()).await.ok().flatten(), None);
}
