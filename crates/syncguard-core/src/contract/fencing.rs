//! Fences increase with every grant of a key, and with nothing else.

use super::{CaseOutcome, Harness, steps::*};
use crate::{
    ErrorKind, Fence,
    backend::{AcquireOutcome, LockBackend},
};

/// A grant after a release has the next fence.
pub async fn fences_increase_across_releases<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for number in 1..=10 {
        let client = if number % 2 == 0 { &a } else { &b };
        let request = request_for("k", LONG);
        assert_eq!(granted(client, &request).await.fence.number(), number);
        released(client, lock_of(&request)).await;
    }
}

/// A grant after an expiry has the next fence.
pub async fn fences_increase_across_expiries<H: Harness>(h: H) {
    let a = h.client().await;
    for number in 1..=3 {
        assert_eq!(granted(&a, &request_for("k", SHORT)).await.fence.number(), number);
        expire(&h, &a, SHORT).await;
    }
}

/// Over a thousand grants, no fence repeats or decreases.
pub async fn a_thousand_grants_have_a_thousand_increasing_fences<H: Harness>(h: H) {
    let a = h.client().await;
    let mut last = 0;
    for _ in 0..1_000 {
        let request = request_for("k", LONG);
        let fence = granted(&a, &request).await.fence.number();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        released(&a, lock_of(&request)).await;
    }
}

/// Contention uses up no fence.
pub async fn contention_uses_up_no_fence<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    granted(&a, &request).await;
    for _ in 0..50 {
        contended(&b, &request_for("k", LONG)).await;
    }
    released(&a, lock_of(&request)).await;
    assert_eq!(granted(&b, &request_for("k", LONG)).await.fence.number(), 2);
}

/// Extends and lookups use up no fence.
pub async fn extends_and_lookups_use_up_no_fence<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", LONG));
    granted(&a, &request).await;
    for _ in 0..10 {
        extended(&a, lock_of(&request), LONG).await;
        a.lookup(&request.key.clone().into()).await.expect("answers");
    }
    released(&a, lock_of(&request)).await;
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 2);
}

/// Each key has its own counter.
pub async fn each_key_has_its_own_fence_counter<H: Harness>(h: H) {
    let a = h.client().await;
    for n in 0..10 {
        assert_eq!(granted(&a, &request_for(&format!("k{n}"), LONG)).await.fence.number(), 1);
    }
}

/// Contenders that race for a key over many rounds get fences that increase in the order of their
/// holds.
pub async fn racing_contenders_get_increasing_fences<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let fences = std::sync::Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (client, fences) = (if n % 2 == 0 { a.clone() } else { b.clone() }, fences.clone());
        tasks.spawn(async move {
            let mut grants = 0;
            while grants < 10 {
                let request = request_for("k", LONG);
                let outcome = client.acquire(&request).await.expect("answers");
                let AcquireOutcome::Granted(grant) = outcome else {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    continue;
                };
                // No other task may be here: the lock itself protects this vector.
                fences.try_lock().expect("one holder at a time").push(grant.fence);
                released(&client, lock_of(&request)).await;
                grants += 1;
            }
        });
    }
    tasks.join_all().await;
    let fences = fences.lock().await;
    assert_eq!(fences.len(), 80);
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
}

/// At the limit of the fence counter, an acquire fails before anything is stored, every time.
pub async fn an_acquire_at_the_fence_limit_fails_and_stores_nothing<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let a = h.client().await;
    let last = Fence::new(Fence::LIMIT.number() - 1).expect("it fits");
    h.seed_fence(&key("k"), last).await.or_skip("the harness cannot set a fence counter")?;
    let request = request_for("k", LONG);
    assert_eq!(granted(&a, &request).await.fence, Fence::LIMIT);
    released(&a, lock_of(&request)).await;
    for _ in 0..2 {
        let error = error_of(a.acquire(&request_for("k", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied());
        assert!(!is_locked(&a, "k").await);
    }
    Ok(())
}
