//! The expiry of a grant.

use super::{Harness, steps::*};
use crate::{BootClock, Clock, LockManager, backend::LockBackend};

/// A key that is neither extended nor released is granted again after ttl and grace.
pub async fn an_expired_key_is_granted_again<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    granted(&a, &request_for("k", SHORT)).await;
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&b, "k").await);
    assert_eq!(granted(&b, &request_for("k", LONG)).await.fence.number(), 2);
}

/// Past the expiry but within the grace, the key is not granted to another id.
pub async fn a_key_is_not_granted_within_the_grace<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    granted(&a, &request_for("k", SHORT)).await;
    h.advance(SHORT + a.capabilities().grace / 3).await;
    let holder = contended(&b, &request_for("k", LONG)).await.expect("something is known");
    assert!(holder.remaining.is_none_or(|remaining| remaining.is_zero()), "{holder:?}");
    // Stores round to milliseconds.
    let left = a.capabilities().grace * 2 / 3 + std::time::Duration::from_millis(1);
    assert!(holder.free_in.is_none_or(|free_in| free_in <= left), "{holder:?}");
    assert!(is_locked(&b, "k").await);
}

/// Past the expiry but within the grace, the holder can still extend.
pub async fn the_holder_can_extend_within_the_grace<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", SHORT);
    granted(&a, &request).await;
    h.advance(SHORT + a.capabilities().grace / 3).await;
    extended(&a, lock_of(&request), LONG).await;
    h.advance(a.capabilities().grace).await;
    contended(&b, &request_for("k", LONG)).await;
}

/// Past the expiry but within the grace, the holder's release frees the key.
pub async fn the_holder_can_release_within_the_grace<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", SHORT);
    granted(&a, &request).await;
    h.advance(SHORT + a.capabilities().grace / 3).await;
    released(&a, lock_of(&request)).await;
    granted(&b, &request_for("k", LONG)).await;
}

/// After the grace, a release reports `NotHeld`, even if the key was not granted again.
pub async fn the_release_of_an_expired_lock_reports_not_held<H: Harness>(h: H) {
    let (a, request) = (h.client().await, request_for("k", SHORT));
    granted(&a, &request).await;
    expire(&h, &a, SHORT).await;
    release_reports_not_held(&a, lock_of(&request)).await;
}

/// Each grant lasts for its own ttl.
pub async fn each_grant_has_its_own_ttl<H: Harness>(h: H) {
    let a = h.client().await;
    granted(&a, &request_for("short", SHORT)).await;
    granted(&a, &request_for("long", LONG)).await;
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&a, "short").await);
    assert!(is_locked(&a, "long").await);
}

/// A guard detects by its own clock that it has expired, and no longer returns its fence.
pub async fn a_guard_detects_its_own_expiry<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", SHORT).await;
    guard.lost().await;
    assert!(!guard.is_valid() && guard.remaining().is_zero());
    assert_eq!(guard.loss(), Some(crate::Loss::Expired));
    error_of(guard.fence(), crate::ErrorKind::Lost);
    error_of(guard.extend(LONG).await, crate::ErrorKind::Lost);
}

/// A guard is lost before its ttl has elapsed, and so before the key is granted to another holder.
pub async fn a_guard_is_lost_before_the_key_is_granted_again<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let guard = held(&mine, "k", SHORT).await;
    let received = BootClock.now();
    let next = async {
        let next = theirs.lock("k").wait(LONG).acquire().await.expect("it is granted eventually");
        assert!(!guard.is_valid());
        assert!(next.is_valid());
    };
    tokio::join!(next, lost_in_time(&guard, received, SHORT));
}

/// A lock that is kept ends with its ttl, not before.
pub async fn a_kept_lock_ends_with_its_ttl<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(a.clone());
    held(&locks, "k", SHORT).await.keep();
    drained(&locks).await;
    assert!(is_locked(&a, "k").await);
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&a, "k").await);
}
