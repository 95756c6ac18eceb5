//! Fence counters of keys that are no longer used can be retired if they are seeded.

use std::time::Duration;

use super::{CaseOutcome, Harness, steps::*};
use crate::{
    ErrorKind, Fence,
    backend::{AcquireRequest, LockBackend, RetirePage, RetireRequest},
};

const DAY: Duration = RetireRequest::MIN_UNUSED_FOR;

/// The fences of a client that seeds are at least those of a client that asked just before, in
/// either mode, and increase within a millisecond too.
pub async fn seeded_fences_follow_the_clock_of_the_store<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let a = seeding_client(&h).await?;
    let mut requests = vec![request_for("k", LONG), request_for("other", LONG)];
    if a.capabilities().shared {
        requests.extend([reader_for("k", LONG), permit_for("permits", 2, LONG)]);
    }
    let mut last = grant_and_release(&a, &request_for("first", LONG)).await;
    assert!(last.number() >= RetireRequest::MIN_FENCE, "{last} is not a time");
    for request in &requests {
        h.advance(Duration::from_millis(5)).await;
        let fence = grant_and_release(&a, request).await;
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    }
    let mut fences = Vec::new();
    for _ in 0..50 {
        fences.push(grant_and_release(&a, &request_for("k", LONG)).await);
    }
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
    Ok(())
}

/// After a counter was retired, the next fence of its key is higher than all before.
pub async fn a_retired_counter_is_followed_by_a_higher_fence<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, old) = aged_counters(&h, &["k", "reader"]).await?;
    assert_eq!(retired(&a, DAY).await, 2);
    assert_eq!(retired(&a, DAY).await, 0, "there is nothing left to retire");
    let fence = granted(&a, &request_for("k", LONG)).await.fence;
    assert!(fence > old, "{fence} after {old}");
    if a.capabilities().shared {
        let fence = granted(&a, &reader_for("reader", LONG)).await.fence;
        assert!(fence > old, "{fence} after {old}");
    }
    Ok(())
}

/// A counter whose key was granted since is not retired, and neither is that of a new key.
pub async fn a_counter_in_use_is_not_retired<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, _) = aged_counters(&h, &["k", "reader"]).await?;
    let mut requests = vec![request_for("k", LONG), request_for("new", LONG)];
    if a.capabilities().shared {
        requests.push(reader_for("reader", LONG));
    }
    let mut fences = Vec::new();
    for request in &requests {
        fences.push(grant_and_release(&a, request).await);
    }
    let left = 3 - u64::try_from(requests.len()).expect("fits");
    assert_eq!(retired(&a, DAY).await, left);
    Ok(())
}

/// The counter of a key that is held is not retired, however old it is. The holder stays as it is.
pub async fn the_counter_of_a_held_key_is_not_retired<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, old) = aged_counters(&h, &["k", "reader"]).await?;
    let b = h.client().await;
    let mut requests = vec![request_for("k", LONG)];
    if b.capabilities().shared {
        requests.push(reader_for("reader", LONG));
    }
    for request in &requests {
        // Its fences do not follow the clock, so the counter stays old.
        assert_eq!(granted(&b, request).await.fence.number(), old.number() + 1);
    }
    assert_eq!(retired(&a, DAY).await, 2 - u64::try_from(requests.len()).expect("fits"));
    for request in &requests {
        extended(&b, lock_of(request), LONG).await;
        released(&b, lock_of(request)).await;
        let next = AcquireRequest { lock_id: id(), ..request.clone() };
        assert_eq!(granted(&b, &next).await.fence.number(), old.number() + 2);
    }
    Ok(())
}

/// A counter that began at 1 is not retired: a client that does not seed may use it.
pub async fn a_counter_that_began_at_one_is_not_retired<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = (seeding_client(&h).await?, h.client().await);
    assert_eq!(grant_and_release(&b, &request_for("k", LONG)).await.number(), 1);
    assert_eq!(retired(&a, DAY).await, 0);
    assert_eq!(grant_and_release(&b, &request_for("k", LONG)).await.number(), 2);
    Ok(())
}

/// A grant that expired without a release keeps neither its counter nor its key: the next grant is
/// made, under a higher fence.
pub async fn the_counter_of_a_key_that_expired_unreleased_is_retired<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, old) = aged_counters(&h, &["k", "reader"]).await?;
    let b = h.client().await;
    granted(&b, &request_for("k", SHORT)).await;
    if b.capabilities().shared {
        granted(&b, &reader_for("reader", SHORT)).await;
    }
    expire(&h, &b, SHORT).await;
    // A store may keep the counter until what is left of the grant is old, too.
    assert!(retired(&a, DAY).await <= 2);
    for request in [request_for("k", LONG), request_for("reader", LONG)] {
        let fence = granted(&a, &request).await.fence.number();
        assert!(fence > old.number() + 1, "{fence} after {old}");
    }
    Ok(())
}

/// Many counters are retired in several steps, each of which examines about as many as requested.
pub async fn counters_are_retired_in_steps<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let (a, _) = aged_counters(&h, &names).await?;
    let mut retired = 0;
    let mut request = RetireRequest::new(DAY).expect("is long enough").limit(2);
    loop {
        let RetirePage { retired: more, next } =
            a.retire_counters(&request).await.expect("the store answers");
        retired += more;
        let Some(next) = next else { break };
        request = request.after(next);
    }
    assert_eq!(retired, 7);
    Ok(())
}

/// A client that does not seed refuses to retire counters, and changes nothing.
pub async fn retiring_counters_that_are_not_seeded_is_rejected<H: Harness>(h: H) {
    let a = h.client().await;
    let request = RetireRequest::new(DAY).expect("is long enough");
    let error = error_of(a.retire_counters(&request).await, ErrorKind::Unsupported);
    if h.seeding_client().await.is_some() {
        assert!(error.to_string().contains("seed_new_counters"), "{error}");
        assert!(!error.may_have_applied(), "{error}");
    }
}

async fn seeding_client<H: Harness>(h: &H) -> Result<H::Backend, CaseOutcome> {
    let client = h.seeding_client().await;
    client.ok_or(CaseOutcome::Skipped("the harness opens no client that seeds fence counters"))
}

/// Opens a client that seeds, and gives keys counters as of two days ago. Returns the fence of
/// these counters.
async fn aged_counters<H: Harness>(
    h: &H,
    names: &[&str],
) -> Result<(H::Backend, Fence), CaseOutcome> {
    let a = seeding_client(h).await?;
    let now = grant_and_release(&a, &request_for("clock", LONG)).await.number();
    let age = u64::try_from(2 * DAY.as_millis()).expect("fits");
    let old = Fence::new(now - age).expect("fits");
    for name in names {
        h.seed_fence(&key(name), old).await.or_skip("the harness cannot set a fence counter")?;
    }
    Ok((a, old))
}

async fn grant_and_release(backend: &impl LockBackend, request: &AcquireRequest) -> Fence {
    let fence = granted(backend, request).await.fence;
    released(backend, lock_of(request)).await;
    fence
}

/// Retires all counters that are due, and returns their number.
async fn retired(backend: &impl LockBackend, unused_for: Duration) -> u64 {
    let mut request = RetireRequest::new(unused_for).expect("is long enough");
    let mut retired = 0;
    loop {
        let page = backend.retire_counters(&request).await.expect("the store answers");
        retired += page.retired;
        let Some(next) = page.next else { return retired };
        request = request.after(next);
    }
}
