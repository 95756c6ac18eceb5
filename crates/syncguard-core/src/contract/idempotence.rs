//! Repeated requests with the same id.

use super::{Harness, steps::*};
use crate::backend::LockBackend;

/// A request with the id that holds the key returns the stored grant, however often it is repeated,
/// and from any client.
pub async fn a_repeated_request_returns_the_stored_grant<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    let grant = granted(&a, &request).await;
    for _ in 0..5 {
        assert_eq!(granted(&a, &request).await, grant);
        assert_eq!(granted(&b, &request).await, grant);
    }
    released(&a, lock_of(&request)).await;
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 2);
}

/// A repeated request does not move the expiry, even with another ttl.
pub async fn a_repeated_request_does_not_move_the_expiry<H: Harness>(h: H) {
    let (a, mut request) = (h.client().await, request_for("k", LONG));
    let grant = granted(&a, &request).await;
    request.ttl = ttl(LONG * 10);
    assert_eq!(granted(&a, &request).await.expires_at, grant.expires_at);
}

/// Two clients that request the key with one id at the same time get one grant.
pub async fn concurrent_requests_with_one_id_get_one_grant<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for round in 0..10 {
        let request = request_for(&format!("k{round}"), LONG);
        let (one, other) = tokio::join!(granted(&a, &request), granted(&b, &request));
        assert_eq!(one, other);
        assert_eq!(one.fence.number(), 1);
    }
}

/// An id whose grant has expired is not granted again while another holder has the key.
pub async fn an_id_whose_grant_has_expired_is_contended<H: Harness>(h: H) {
    let (a, stale) = (h.client().await, request_for("k", SHORT));
    granted(&a, &stale).await;
    expire(&h, &a, SHORT).await;
    granted(&a, &request_for("k", LONG)).await;
    contended(&a, &stale).await;
    assert!(a.lookup(&stale.lock_id.into()).await.expect("answers").is_none());
}
