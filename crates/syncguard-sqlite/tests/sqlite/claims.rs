//! What claims leave in the file.

use std::time::Duration;

use syncguard_core::{
    Fence, LockId, LockManager, OnceOutcome, ReleaseOutcome, ThrottleOutcome, backend::LockBackend,
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use syncguard_testkit::operations::{LONG, eventually};

use crate::{Scratch, granted, key, release, request};

/// Short enough to wait for, and long enough for a claim on a busy machine.
const BRIEF: Duration = Duration::from_secs(3);

const ROWS: &str = "SELECT count(*) FROM syncguard_locks";

#[tokio::test]
async fn no_row_is_left_of_claims_that_have_ended() {
    for seeds in [false, true] {
        let scratch = Scratch::in_memory();
        let config = SqliteConfig::new(scratch.path());
        let config = if seeds { config.seed_new_counters() } else { config };
        let backend = SqliteBackend::connect(config).await.unwrap();
        let (locks, mut foreign) = (LockManager::new(backend.clone()), scratch.foreign().await);
        for n in 0..100 {
            let text = format!("k{n}");
            let ttl = if n % 4 == 3 { BRIEF } else { LONG };
            let OnceOutcome::First(claim) = locks.once(text.as_str(), ttl).await.unwrap() else {
                panic!("it is fresh")
            };
            match n % 4 {
                0 => assert_eq!(claim.release().await.unwrap(), ReleaseOutcome::Released),
                1 => assert!(locks.force_release(text).await.unwrap().is_some()),
                2 => {
                    let held = locks.lookup_raw(&key(&text).into()).await.unwrap().unwrap();
                    backend.abandon(held.lock_id, &held.key).await.unwrap();
                }
                _ => {}
            }
        }
        assert_eq!(locks.throttle("rate", BRIEF).await.unwrap(), ThrottleOutcome::Passed);
        let OnceOutcome::First(standing) = locks.once("standing", LONG).await.unwrap() else {
            panic!("it is fresh")
        };
        assert_ne!(foreign.number(ROWS).await, 0, "one stands");
        assert_eq!(standing.release().await.unwrap(), ReleaseOutcome::Released);
        eventually("no row is left", async || {
            // An abandon counts as a reason to prune, and leaves no row of a key.
            backend.abandon(LockId::mint().unwrap(), &key("other")).await.unwrap();
            foreign.number(ROWS).await == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_claim_keeps_and_advances_the_counter_of_a_lock() {
    let scratch = Scratch::new();
    let (backend, mut foreign) = (scratch.open().await, scratch.foreign().await);
    let claim = || request("job").without_new_counter();
    for _ in 0..2 {
        let early = claim();
        assert_eq!(granted(&backend, &early).await.fence, Fence::ZERO);
        release(&backend, &early).await;
    }
    for number in 1..=4_u32 {
        let request = if number % 2 == 0 { claim() } else { request("job") };
        assert_eq!(granted(&backend, &request).await.fence.number(), u64::from(number));
        assert_eq!(foreign.number("SELECT fence FROM syncguard_locks").await, i64::from(number));
        release(&backend, &request).await;
    }
}

/// Most claims end without a release, so the claims themselves have to prune.
#[tokio::test]
async fn claims_that_are_never_released_prune_those_before_them() {
    let scratch = Scratch::in_memory();
    let (backend, mut foreign) = (scratch.open().await, scratch.foreign().await);
    let (locks, mut claimed) = (LockManager::new(backend), 0);
    for _ in 0..8 {
        claimed += 1;
        drop(locks.once(format!("k{claimed}"), LONG).await.unwrap());
    }
    foreign.run("UPDATE syncguard_locks SET expires_at_ms = 2").await;
    eventually("the old claims are gone", async || {
        claimed += 1;
        drop(locks.once(format!("k{claimed}"), LONG).await.unwrap());
        let old = "SELECT count(*) FROM syncguard_locks WHERE expires_at_ms = 2";
        foreign.number(old).await == 0
    })
    .await;
    assert!(locks.is_locked(format!("k{claimed}")).await.unwrap());
}
