//! Locks that outlast their work: `once`, `throttle` and `min_hold`.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{CaseOutcome, Fault, Faulty, Harness, steps::*};
use crate::{
    ErrorKind, Fence, LockManager, OnceOutcome, Operation, ThrottleOutcome,
    backend::{AcquireOutcome, AcquireRequest, LockBackend},
};

/// A claim of a key is exclusive for the whole ttl, even after it was dropped.
pub async fn once_succeeds_again_only_after_the_ttl<H: Harness>(h: H) {
    let a = h.client().await;
    let (mine, theirs) = (LockManager::new(a.clone()), LockManager::new(h.client().await));
    let OnceOutcome::First(claim) = mine.once("k", BRIEF).await.expect("answers") else {
        panic!("is free")
    };
    drop(claim);
    drained(&mine).await;
    for locks in [&mine, &theirs] {
        let OnceOutcome::Already(Some(holder)) = locks.once("k", LONG).await.expect("answers")
        else {
            panic!("it was claimed")
        };
        assert!(holder.free_in.expect("it is known") <= BRIEF + a.capabilities().grace);
    }
    expire(&h, &a, BRIEF).await;
    assert!(matches!(theirs.once("k", LONG).await, Ok(OnceOutcome::First(_))));
}

/// After a claim is released, another process can claim the key as the first.
pub async fn a_claim_that_is_released_can_be_made_again<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let OnceOutcome::First(claim) = mine.once("k", LONG).await.expect("answers") else {
        panic!("is free")
    };
    claim.release().await.expect("answers");
    assert!(matches!(theirs.once("k", LONG).await, Ok(OnceOutcome::First(_))));
}

fn claim_for(text: &str, duration: Duration) -> AcquireRequest {
    request_for(text, duration).without_new_counter()
}

/// A claim on a key without a fence counter creates none, whether it is released or expires. It
/// excludes all others as a lock does. Once the key has a counter, claims advance it.
pub async fn a_claim_leaves_no_counter<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = (h.client().await, h.client().await);
    let claim = claim_for("k", LONG);
    let grant = granted(&a, &claim).await;
    if grant.fence != Fence::ZERO {
        return Err(CaseOutcome::Skipped("the backend counts claims"));
    }
    assert_eq!(granted(&a, &claim).await, grant, "a repeated request returns the stored grant");
    contended(&b, &claim_for("k", LONG)).await;
    contended(&b, &request_for("k", LONG)).await;
    released(&b, lock_of(&claim)).await;
    assert_eq!(granted(&a, &claim_for("k", SHORT)).await.fence, Fence::ZERO);
    expire(&h, &a, SHORT).await;
    assert_eq!(granted(&b, &claim_for("k", SHORT)).await.fence, Fence::ZERO, "after an expiry");
    expire(&h, &a, SHORT).await;
    for number in 1..=4 {
        let request = request_for("k", LONG);
        let request = if number % 2 == 0 { request.without_new_counter() } else { request };
        assert_eq!(granted(&a, &request).await.fence.number(), number);
        released(&b, lock_of(&request)).await;
    }
    Ok(())
}

/// Claims before and between the locks on a key do not keep the fences of the locks from increasing.
pub async fn the_fences_of_locks_between_claims_increase<H: Harness>(h: H) {
    let clients = [h.client().await, h.client().await];
    let mut last = Fence::ZERO;
    for n in 0..12 {
        let request = if n % 3 == 2 { request_for("k", LONG) } else { claim_for("k", LONG) };
        let fence = granted(&clients[n % 2], &request).await.fence;
        if request.creates_counter {
            assert!(fence > last, "{fence} after {last}");
            last = fence;
        }
        released(&clients[(n + 1) % 2], lock_of(&request)).await;
    }
}

/// Of many claims that are made on a fresh key at the same time, exactly one is the first.
pub async fn exactly_one_of_many_claims_is_the_first<H: Harness>(h: H) {
    const KEYS: usize = 20;
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(LockManager::new(h.client().await));
    }
    for n in 0..KEYS {
        let mut claims = JoinSet::new();
        for process in 0..16 {
            let locks = processes[process % 4].clone();
            claims.spawn(async move { locks.once(format!("k{n}"), LONG).await });
        }
        let outcomes = claims.join_all().await;
        let is_first = |outcome: &Result<_, _>| matches!(outcome, Ok(OnceOutcome::First(_)));
        let firsts = outcomes.iter().filter(|outcome| is_first(outcome)).count();
        assert_eq!(firsts, 1, "{outcomes:?}");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
}

/// Of claims and locks that are requested for a fresh key at the same time, one is granted.
pub async fn a_claim_and_a_lock_are_not_granted_together<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for n in 0..20 {
        let text = format!("k{n}");
        let requests = [0, 1, 2, 3].map(|m| match m % 2 {
            0 => claim_for(&text, LONG),
            _ => request_for(&text, LONG),
        });
        let [w, x, y, z] = &requests;
        let outcomes = tokio::join!(a.acquire(w), b.acquire(x), b.acquire(y), a.acquire(z));
        let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3];
        let granted = outcomes.into_iter().map(|outcome| outcome.expect("answers"));
        let granted = granted.filter(|outcome| matches!(outcome, AcquireOutcome::Granted(_)));
        assert_eq!(granted.count(), 1, "{text}");
    }
}

/// If the id of a claim is abandoned while the claim is in flight, it holds no lock afterwards, and
/// a claim of another id stays.
pub async fn an_abandoned_claim_leaves_no_lock<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for round in 0..50 {
        let text = format!("k{round}");
        let claim = claim_for(&text, LONG);
        let (outcome, abandoned) = tokio::join!(a.acquire(&claim), async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            b.abandon(claim.lock_id, &claim.key).await
        });
        abandoned.expect("answers");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
        }
        assert!(!is_locked(&b, &text).await, "round {round}");
        error_of(a.acquire(&claim).await, ErrorKind::Aborted);
        let next = claim_for(&text, LONG);
        granted(&a, &next).await;
        b.abandon(claim.lock_id, &claim.key).await.expect("answers");
        released(&b, lock_of(&next)).await;
    }
}

/// A throttle lets one caller pass, reports to others when to retry, and lets one of them pass
/// then.
pub async fn a_throttle_lets_one_caller_pass_per_period<H: Harness>(h: H) {
    let a = h.client().await;
    let (mine, theirs) = (LockManager::new(a.clone()), LockManager::new(h.client().await));
    let most = a.capabilities().grace + BRIEF;
    assert_eq!(mine.throttle("k", BRIEF).await.expect("answers"), ThrottleOutcome::Passed);
    for locks in [&mine, &theirs] {
        let ThrottleOutcome::Limited { retry_after } =
            locks.throttle("k", BRIEF).await.expect("answers")
        else {
            panic!("one has passed")
        };
        assert!(retry_after.expect("it is known") <= most, "{retry_after:?}");
    }
    h.advance(most + SLACK).await;
    assert_eq!(theirs.throttle("k", BRIEF).await.expect("answers"), ThrottleOutcome::Passed);
}

/// A lock that is released early stays locked for `min_hold`, and no longer.
pub async fn work_that_ends_early_leaves_its_key_locked_for_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    locks.lock("k").ttl(LONG).min_hold(SHORT).run(async |_| ()).await.expect("is free");
    contended(&a, &request_for("k", LONG)).await;
    expire(&h, &a, SHORT).await;
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 2);
}

/// The same applies to a guard that is dropped, even if its release is still in the background.
pub async fn a_guard_dropped_early_leaves_its_key_locked_for_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    let lock = locks.lock("k").ttl(LONG).min_hold(SHORT);
    drop(lock.acquire().await.expect("is free"));
    drained(&locks).await;
    contended(&a, &request_for("k", LONG)).await;
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&a, "k").await);
}

/// After `min_hold`, a release frees the key immediately.
pub async fn a_lock_held_for_min_hold_is_released_immediately<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    let guard = locks.lock("k").ttl(LONG).min_hold(Duration::from_millis(1)).acquire().await;
    let guard = guard.expect("is free");
    tokio::time::sleep(Duration::from_millis(5)).await;
    guard.release().await.expect("answers");
    assert!(!is_locked(&a, "k").await);
}

/// A grant whose first reply was lost is abandoned, but not before `min_hold` has elapsed.
pub async fn a_grant_with_a_lost_reply_is_abandoned_after_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    let guard = locks.lock("k").ttl(LONG).min_hold(BRIEF).acquire().await.expect("is free");
    assert_eq!(faulty.planned(), 0, "the reply was lost");
    let lock_id = guard.lock_id();
    guard.release().await.expect("answers");
    contended(&a, &request_for("k", LONG)).await;
    drained(&locks).await;
    expire(&h, &a, BRIEF).await;
    let late = AcquireRequest { lock_id, ..request_for("k", LONG) };
    error_of(a.acquire(&late).await, ErrorKind::Aborted);
    assert!(!is_locked(&a, "k").await);
}

/// A `min_hold` that the ttl does not cover is rejected before anything is sent.
pub async fn a_min_hold_beyond_the_ttl_is_rejected<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    let lock = || locks.lock("k").min_hold(LONG);
    let error = error_of(lock().ttl(SHORT).try_acquire().await, ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("min_hold 60s"), "{error}");
    error_of(lock().ttl(LONG).max_hold(SHORT).acquire().await, ErrorKind::InvalidArgument);
    assert!(!is_locked(&a, "k").await);
}

/// A grant that no caller received is released immediately, because no work was done under it.
pub async fn a_grant_that_no_caller_received_is_not_kept_for_min_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let gate = super::Gate::new();
    faulty.plan(Operation::Acquire, Fault::ReplyDelayed(gate.clone()));
    let lock = locks.lock("k").ttl(LONG).min_hold(LONG).wait(SHORT);
    error_of(lock.acquire().await, ErrorKind::Ambiguous);
    gate.open();
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}
