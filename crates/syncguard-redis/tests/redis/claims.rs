//! What claims leave at the server.

use std::time::Duration;

use syncguard_core::{
    Fence, LockManager, OnceOutcome, ReleaseOutcome, ThrottleOutcome, backend::LockBackend,
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::operations::{LONG, ask, eventually, granted, released};

use crate::{config, connect, safe};

/// Short enough to wait for, and long enough for a claim on a busy machine.
const BRIEF: Duration = Duration::from_secs(3);

#[tokio::test]
async fn no_key_is_left_of_claims_that_have_ended() {
    let server = safe().start().await.unwrap();
    for config in [config(&server.url()), config(&server.url()).seed_new_counters()] {
        let backend = RedisBackend::connect(config).await.unwrap();
        let locks = LockManager::new(backend.clone());
        for n in 0..100 {
            let ttl = if n % 2 == 0 { LONG } else { BRIEF };
            let outcome = locks.once(format!("k{n}"), ttl).await.unwrap();
            let OnceOutcome::First(claim) = outcome else { panic!("it is fresh") };
            if n % 2 == 0 {
                assert_eq!(claim.release().await.unwrap(), ReleaseOutcome::Released);
            }
        }
        assert_eq!(locks.throttle("rate", BRIEF).await.unwrap(), ThrottleOutcome::Passed);
        let size = async || server.command(&["DBSIZE"]).await.unwrap().trim().to_owned();
        let OnceOutcome::First(standing) = locks.once("standing", LONG).await.unwrap() else {
            panic!("it is fresh")
        };
        assert_ne!(size().await, "0", "one stands");
        assert_eq!(standing.release().await.unwrap(), ReleaseOutcome::Released);
        eventually("the server is empty", async || size().await == "0").await;
    }
}

#[tokio::test]
async fn a_claim_keeps_and_advances_the_counter_of_a_lock() {
    let server = safe().start().await.unwrap();
    let backend = connect(&server.url()).await;
    let counter = async || {
        let counter = server.command(&["GET", "syncguard:fence:syncguard:job"]).await.unwrap();
        counter.trim().to_owned()
    };
    let claim = || ask("job", LONG).without_new_counter();
    let early = claim();
    assert_eq!(granted(&backend, &early).await.fence, Fence::ZERO);
    assert!(released(&backend, &early).await);
    for number in 1..=4 {
        let request = if number % 2 == 0 { claim() } else { ask("job", LONG) };
        assert_eq!(granted(&backend, &request).await.fence.number(), number);
        assert_eq!(counter().await, number.to_string());
        assert!(released(&backend, &request).await);
    }
}

#[tokio::test]
async fn a_claim_of_an_abandoned_id_stores_nothing() {
    let server = safe().start().await.unwrap();
    let backend = connect(&server.url()).await;
    let claim = ask("job", LONG).without_new_counter();
    backend.abandon(claim.lock_id, &claim.key).await.unwrap();
    assert!(backend.acquire(&claim).await.is_err());
    assert_eq!(server.command(&["DBSIZE"]).await.unwrap().trim(), "1", "the tombstone");
}
