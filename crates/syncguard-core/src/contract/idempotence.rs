//! Repeated requests with the same id.

use super::{Harness, steps::*};
use crate::LockBackend;

/// The id that holds the key gets the stored grant, however often it asks, and from any client.
pub async fn asking_again_with_the_same_id_gives_the_stored_grant<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = ask("k", LONG);
    let grant = granted(&a, &request).await;
    for _ in 0..5 {
        assert_eq!(granted(&a, &request).await, grant);
        assert_eq!(granted(&b, &request).await, grant);
    }
    released(&a, lock_of(&request)).await;
    assert_eq!(granted(&a, &ask("k", LONG)).await.fence.number(), 2);
}

/// Asking again does not move the expiry, even with another ttl.
pub async fn asking_again_moves_no_expiry<H: Harness>(h: H) {
    let (a, mut request) = (h.client().await, ask("k", LONG));
    let grant = granted(&a, &request).await;
    request.ttl = ttl(LONG * 10);
    assert_eq!(granted(&a, &request).await.expires_at, grant.expires_at);
}

/// If one id asks at the same time from two sides, it gets one grant.
pub async fn one_id_gets_one_grant_however_many_ask<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    for round in 0..10 {
        let request = ask(&format!("k{round}"), LONG);
        let (one, other) = tokio::join!(granted(&a, &request), granted(&b, &request));
        assert_eq!(one, other);
        assert_eq!(one.fence.number(), 1);
    }
}

/// An id whose grant is over does not get it back while another holder has the key.
pub async fn an_id_whose_grant_is_over_is_contended<H: Harness>(h: H) {
    let (a, stale) = (h.client().await, ask("k", SHORT));
    granted(&a, &stale).await;
    expire(&h, &a, SHORT).await;
    granted(&a, &ask("k", LONG)).await;
    contended(&a, &stale).await;
    assert!(a.lookup(&stale.lock_id.into()).await.expect("answers").is_none());
}
