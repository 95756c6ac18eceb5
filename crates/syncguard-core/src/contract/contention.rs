//! What a contender sees, and what it leaves untouched.

use super::{Harness, steps::*};
use crate::{
    LockManager, Owner, TryAcquireOutcome,
    backend::{AcquireOutcome, LockBackend},
};

/// A key that is held is not granted again, neither to another client nor to the same one.
pub async fn a_held_key_is_not_granted_again<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    granted(&a, &request_for("k", LONG)).await;
    contended(&a, &request_for("k", LONG)).await;
    contended(&b, &request_for("k", LONG)).await;
}

/// Contention reports the holder's fence, label and time left, as far as the backend reports them.
pub async fn contention_reports_the_holder<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let owner = Owner::new("build 7").expect("it is valid");
    let grant = granted(&a, &request_for("k", LONG).with_owner(Some(owner.clone()))).await;
    let holder = contended(&b, &request_for("k", LONG)).await.expect("something is known");
    assert_eq!(holder.fence, Some(grant.fence));
    assert_eq!(holder.owner, Some(owner));
    let remaining = holder.remaining.expect("it is known");
    assert!(remaining <= LONG && remaining > LONG / 2, "{remaining:?}");
    let free_in = holder.free_in.expect("it is known");
    assert_eq!(free_in, remaining + b.capabilities().grace);
}

/// A contender changes neither the holder nor the expiry.
pub async fn a_contender_does_not_change_the_lock<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    let grant = granted(&a, &request).await;
    for _ in 0..5 {
        contended(&b, &request_for("k", SHORT)).await;
    }
    let record = a.lookup(&request.key.clone().into()).await.expect("answers").expect("is held");
    assert_eq!((record.lock_id, record.fence), (request.lock_id, grant.fence));
    assert_eq!(record.expires_at, grant.expires_at);
}

/// Of many contenders for a free key, exactly one is granted.
pub async fn exactly_one_of_many_contenders_is_granted<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let client = if n % 2 == 0 { a.clone() } else { b.clone() };
        tasks.spawn(async move { client.acquire(&request_for("k", LONG)).await.expect("answers") });
    }
    let outcomes = tasks.join_all().await;
    let granted = outcomes.iter().filter(|o| matches!(o, AcquireOutcome::Granted(_)));
    assert_eq!(granted.count(), 1);
}

/// Keys are independent of each other.
pub async fn different_keys_do_not_contend<H: Harness>(h: H) {
    let a = h.client().await;
    for n in 0..20 {
        granted(&a, &request_for(&format!("k{n}"), LONG)).await;
    }
}

/// The ttl counts from the grant: a store reads its current time after the wait for its own lock.
/// So no grant begins at a time at which its key was still held by the previous holder.
pub async fn a_ttl_begins_after_the_wait_for_the_store<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for round in 0..20 {
        let text = format!("k{round}");
        let (first, next) = (request_for(&text, LONG), request_for(&text, LONG));
        granted(&a, &first).await;
        let query = first.key.clone().into();
        let (seen, released, outcome) = tokio::join!(
            a.lookup(&query),
            async { a.release(&lock_of(&first)).await },
            b.acquire(&next)
        );
        released.expect("answers");
        let held = seen.expect("answers").filter(|record| record.lock_id == first.lock_id);
        if let (Some(held), AcquireOutcome::Granted(grant)) = (held, outcome.expect("answers")) {
            assert!(grant.expires_at >= held.observed_at.after(next.ttl), "{grant:?} {held:?}");
        }
    }
}

/// A single attempt through the lock API reports contention as an outcome, not as an error.
pub async fn a_contended_try_is_an_outcome_not_an_error<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let _guard = theirs.lock("k").owner("them").try_acquire().await.expect("answers");
    match mine.lock("k").try_acquire().await.expect("answers") {
        TryAcquireOutcome::Contended(holder) => {
            let owner = holder.expect("something is known").owner.expect("it is known");
            assert_eq!(owner.as_str(), "them");
        }
        TryAcquireOutcome::Acquired(guard) => panic!("{guard:?}"),
    }
}
