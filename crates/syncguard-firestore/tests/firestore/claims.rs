//! Claims, which create no fence counter: what they leave, and commits of theirs that arrive late.

use std::time::Duration;

use firestore_emulator::{Concurrency, Fault};
use syncguard_core::{
    ErrorKind, Fence, LockManager, OnceOutcome, ReleaseOutcome, ThrottleOutcome,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, eventually, granted, is_locked, released,
};

use crate::{config, connect, raw::Raw, start, start_as};

/// Short enough to wait for, and long enough for a claim on a busy machine.
const BRIEF: Duration = Duration::from_secs(3);

#[tokio::test]
async fn no_document_is_left_of_claims_that_have_ended() {
    let emulator = start().await;
    let seeding = FirestoreBackend::connect(config(&emulator).seed_new_counters()).unwrap();
    for backend in [connect(&emulator), seeding] {
        let (locks, raw) = (LockManager::new(backend), Raw::connect(&emulator));
        for n in 0..100 {
            let text = format!("k{n}");
            let ttl = if n % 3 == 2 { BRIEF } else { LONG };
            let OnceOutcome::First(claim) = locks.once(text.as_str(), ttl).await.unwrap() else {
                panic!("it is fresh")
            };
            match n % 3 {
                0 => assert_eq!(claim.release().await.unwrap(), ReleaseOutcome::Released),
                1 => assert!(locks.force_release(text).await.unwrap().is_some()),
                _ => {}
            }
        }
        assert_eq!(locks.throttle("rate", BRIEF).await.unwrap(), ThrottleOutcome::Passed);
        let OnceOutcome::First(standing) = locks.once("standing", LONG).await.unwrap() else {
            panic!("it is fresh")
        };
        assert!(!raw.ids("locks").await.is_empty(), "one stands");
        assert_eq!(standing.release().await.unwrap(), ReleaseOutcome::Released);
        eventually("no document is left", async || {
            // The claims themselves prune.
            match locks.once("last", LONG).await.unwrap() {
                OnceOutcome::First(claim) => {
                    assert_eq!(claim.release().await.unwrap(), ReleaseOutcome::Released)
                }
                OnceOutcome::Already(_) => panic!("it was released"),
            }
            raw.ids("locks").await.is_empty()
        })
        .await;
        assert!(raw.ids("fence_counters").await.is_empty());
    }
}

#[tokio::test]
async fn a_claim_keeps_and_advances_the_counter_of_a_lock() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    let claim = || ask("job", LONG).without_new_counter();
    for _ in 0..2 {
        let early = claim();
        assert_eq!(granted(&backend, &early).await.fence, Fence::ZERO);
        assert!(released(&backend, &early).await);
    }
    for number in 1..=4 {
        let request = if number % 2 == 0 { claim() } else { ask("job", LONG) };
        let fence = granted(&backend, &request).await.fence;
        assert_eq!(fence.number(), number);
        let counter = raw.read("fence_counters/fence:job").await.unwrap();
        assert_eq!(counter["fence"], crate::raw::text(&fence.to_string()));
        assert!(released(&backend, &request).await);
    }
}

/// A lock is refused if its counter is missing, because fences may repeat. That of a claim is not.
#[tokio::test]
async fn a_key_whose_claim_has_expired_can_be_locked() {
    let emulator = start().await;
    let backend = connect(&emulator);
    granted(&backend, &ask("job", Duration::from_millis(300)).without_new_counter()).await;
    eventually("it is over", async || !is_locked(&backend, "job").await).await;
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1);
}

#[tokio::test]
async fn a_commit_of_a_claim_that_arrives_after_its_abandon_fails() {
    for concurrency in [Concurrency::Pessimistic, Concurrency::Optimistic] {
        let emulator = start_as(concurrency).await;
        let (slow, fast) = (connect(&emulator), connect(&emulator));
        for round in 0..50 {
            let text = format!("k{round}");
            let claim = ask(&text, LONG).without_new_counter();
            let late = emulator.inject(Fault::hold().document(&text));
            let claiming = tokio::spawn({
                let (slow, claim) = (slow.clone(), claim.clone());
                async move { slow.acquire(&claim).await }
            });
            late.happened(1).await;
            fast.abandon(claim.lock_id, &claim.key).await.unwrap();
            late.release();
            error_of(claiming.await.unwrap(), ErrorKind::Aborted);
            assert!(!is_locked(&fast, &text).await, "round {round}");
        }
    }
}

/// The abandon has read that there is neither a lock nor a counter. The claim that is granted then
/// does not create a counter, so the abandon must rest on the lock as well.
#[tokio::test]
async fn an_abandon_that_is_overtaken_by_its_claim_ends_it() {
    for concurrency in [Concurrency::Pessimistic, Concurrency::Optimistic] {
        let emulator = start_as(concurrency).await;
        let (slow, fast) = (connect(&emulator), connect(&emulator));
        for of_another in [false, true] {
            let text = format!("of_another {of_another}");
            let claim = ask(&text, LONG).without_new_counter();
            let late = emulator.inject(Fault::hold().document(format!("fence:{text}")));
            let abandoning = tokio::spawn({
                let (slow, key) = (slow.clone(), claim.key.clone());
                async move { slow.abandon(claim.lock_id, &key).await }
            });
            late.happened(1).await;
            let other = ask(&text, LONG).without_new_counter();
            let overtaking = if of_another { &other } else { &claim };
            granted(&fast, overtaking).await;
            late.release();
            abandoning.await.unwrap().unwrap();
            assert_eq!(is_locked(&fast, &text).await, of_another);
            error_of(fast.acquire(&claim).await, ErrorKind::Aborted);
        }
    }
}

/// The commit of a claim is held at the server until its caller has given up. Meanwhile another claim
/// has the key, without a trace in the counter. Once that is released, the commit is applied.
#[tokio::test]
async fn a_claim_whose_commit_may_still_be_applied_is_not_reported_as_contended() {
    let emulator = start().await;
    let hasty = config(&emulator).request_timeout(Duration::from_secs(2));
    let (hasty, fast) = (FirestoreBackend::connect(hasty).unwrap(), connect(&emulator));
    let claim = ask("job", LONG).without_new_counter();
    let late = emulator.inject(Fault::hold().document("job"));
    let claiming = tokio::spawn({
        let claim = claim.clone();
        async move { hasty.acquire(&claim).await }
    });
    late.happened(1).await;
    let other = ask("job", LONG).without_new_counter();
    granted(&fast, &other).await;
    let error = claiming.await.unwrap().unwrap_err();
    assert!(error.may_have_applied(), "{error}");
    assert!(released(&fast, &other).await);
    late.release();
    eventually("the commit is applied", async || is_locked(&fast, "job").await).await;
    let repeated = fast.acquire(&claim).await.unwrap();
    assert!(matches!(repeated, AcquireOutcome::Granted(_)), "{repeated:?}");
    fast.abandon(claim.lock_id, &claim.key).await.unwrap();
    assert!(!is_locked(&fast, "job").await);
}
