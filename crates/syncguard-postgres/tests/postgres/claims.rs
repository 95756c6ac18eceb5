//! What claims leave in the tables.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use syncguard_core::{
    Fence, LockManager, OnceOutcome, ReleaseOutcome, ThrottleOutcome, backend::LockBackend,
};
use syncguard_testkit::operations::{LONG, ask, eventually, granted, key, released};

use crate::{Foreign, Names, shared};

/// Short enough to wait for, and long enough for a claim on a busy machine.
const BRIEF: Duration = Duration::from_secs(3);

#[tokio::test]
async fn no_row_is_left_of_claims_that_have_ended() {
    let (server, name) = (shared().await, Names::fresh());
    let backend = name.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let locks = LockManager::new(backend.clone());
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
    let rows = format!("SELECT count(*) FROM {} WHERE octet_length(key) <= 512", name.locks);
    let OnceOutcome::First(standing) = locks.once("standing", LONG).await.unwrap() else {
        panic!("it is fresh")
    };
    assert_ne!(foreign.number(&rows).await, 0, "one stands");
    assert_eq!(standing.release().await.unwrap(), ReleaseOutcome::Released);
    eventually("no row is left", async || {
        backend.prune(Duration::ZERO).await.unwrap();
        foreign.number(&rows).await == 0
    })
    .await;
    assert_eq!(foreign.number(&format!("SELECT count(*) FROM {}", name.counters)).await, 0);
    // The tombstones of the abandoned ids are younger than any request that may be in flight.
    foreign.run(&format!("UPDATE {} SET acquired_at_ms = 1", name.locks)).await;
    backend.prune(Duration::ZERO).await.unwrap();
    assert_eq!(foreign.number(&format!("SELECT count(*) FROM {}", name.locks)).await, 0);
}

#[tokio::test]
async fn a_claim_keeps_and_advances_the_counter_of_a_lock() {
    let (server, name) = (shared().await, Names::fresh());
    let backend = name.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let claim = || ask("job", LONG).without_new_counter();
    for _ in 0..2 {
        let early = claim();
        assert_eq!(granted(&backend, &early).await.fence, Fence::ZERO);
        assert!(released(&backend, &early).await);
    }
    for number in 1..=4_u32 {
        let request = if number % 2 == 0 { claim() } else { ask("job", LONG) };
        assert_eq!(granted(&backend, &request).await.fence.number(), u64::from(number));
        assert_eq!(
            foreign.number(&format!("SELECT fence FROM {}", name.counters)).await,
            i64::from(number)
        );
        assert!(released(&backend, &request).await);
    }
}

/// Most claims end without a release, so the claims themselves have to prune.
#[tokio::test]
async fn claims_that_are_never_released_prune_those_before_them() {
    let (server, name) = (shared().await, Names::fresh());
    let backend = name.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let locks = LockManager::new(backend.clone());
    let claimed = AtomicU32::new(0);
    let claim = async || {
        let n = claimed.fetch_add(1, Ordering::Relaxed);
        drop(locks.once(format!("k{n}"), LONG).await.unwrap());
    };
    for _ in 0..8 {
        claim().await;
    }
    foreign.run(&format!("UPDATE {} SET acquired_at_ms = 1, expires_at_ms = 2", name.locks)).await;
    eventually("the old claims are gone", async || {
        claim().await;
        foreign
            .number(&format!("SELECT count(*) FROM {} WHERE expires_at_ms = 2", name.locks))
            .await
            == 0
    })
    .await;
    assert!(locks.is_locked(format!("k{}", claimed.load(Ordering::Relaxed) - 1)).await.unwrap());
}
