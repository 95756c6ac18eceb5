//! Invalid input, rejected before anything is stored.

use std::time::Duration;

use super::{CaseOutcome, Harness, steps::*};
use crate::{ErrorKind, LockManager, Ttl, backend::LockBackend};

/// An empty key and a key of 513 bytes are rejected, with a message that names the rule.
pub async fn an_invalid_key_is_rejected<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    for text in [String::new(), "x".repeat(513), "é".repeat(257)] {
        let error = error_of(locks.lock(&text).try_acquire().await, ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("512"), "{error}");
        error_of(locks.lookup(&text).await, ErrorKind::InvalidArgument);
    }
}

/// A ttl of zero, of a fraction of a millisecond, or longer than the limit is rejected.
pub async fn an_invalid_ttl_is_rejected<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    let too_long = Ttl::MAX.as_duration() + Duration::from_millis(1);
    for bad in [Duration::ZERO, Duration::from_micros(1), too_long] {
        error_of(locks.lock("k").ttl(bad).acquire().await, ErrorKind::InvalidArgument);
    }
    error_of(locks.lock("k").ttl("soon").try_acquire().await, ErrorKind::InvalidArgument);
    assert!(!is_locked(&a, "k").await);
    let guard = held(&locks, "k", LONG).await;
    error_of(guard.extend(Duration::ZERO).await, ErrorKind::InvalidArgument);
    assert!(guard.is_valid());
}

/// The longest and the shortest ttl work.
pub async fn the_longest_and_the_shortest_ttl_work<H: Harness>(h: H) {
    let a = h.client().await;
    let request = request_for("long", Ttl::MAX.as_duration());
    granted(&a, &request).await;
    extended(&a, lock_of(&request), Ttl::MAX.as_duration()).await;
    contended(&a, &request_for("long", LONG)).await;
    let request = request_for("short", Duration::from_millis(1));
    granted(&a, &request).await;
    expire(&h, &a, Duration::from_millis(1)).await;
    granted(&a, &request_for("short", LONG)).await;
}

/// An owner label that is empty, too long or not printable is rejected.
pub async fn an_invalid_owner_is_rejected<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    for bad in ["", "two\nlines", &"x".repeat(256)] {
        let result = locks.lock("k").owner(bad).try_acquire().await;
        error_of(result, ErrorKind::InvalidArgument);
    }
}

/// A backend without the capability rejects a request in shared mode, and stores nothing.
pub async fn shared_mode_without_the_capability_is_rejected<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let a = h.client().await;
    if a.capabilities().shared {
        return Err(CaseOutcome::Skipped("the backend grants shared mode"));
    }
    for request in [reader_for("k", LONG), permit_for("k", 2, LONG)] {
        let error = error_of(a.acquire(&request).await, ErrorKind::Unsupported);
        assert!(!error.may_have_applied(), "{error}");
    }
    assert!(!is_locked(&a, "k").await);
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 1);
    Ok(())
}
