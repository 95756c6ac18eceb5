//! Lock ids that are used twice, and lists of several pages.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use syncguard_core::{
    ErrorKind,
    backend::{AcquireOutcome, ListRequest, LockBackend},
};

use super::{Foreign, Tables};
use crate::operations::{LONG, ask, error_of, granted, is_locked};

/// An id whose own grant has expired is not granted again.
pub async fn an_id_whose_own_grant_has_expired_is_not_granted_again<T: Tables>() {
    let (server, tables) = (T::shared().await, T::fresh());
    let backend = tables.connect(&server.url()).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    let expire = tables.fill("UPDATE {locks} SET expires_at_ms = 1");
    T::Foreign::open(&server.url()).await.run(&expire).await;
    for _ in 0..2 {
        let outcome = backend.acquire(&request).await.unwrap();
        assert!(matches!(outcome, AcquireOutcome::Contended { holder: None }), "{outcome:?}");
    }
    assert!(!is_locked(&backend, "job").await);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 2);
}

/// An id that holds one key is granted no other.
pub async fn an_id_that_holds_one_key_is_granted_no_other<T: Tables>() {
    let (server, tables) = (T::shared().await, T::fresh());
    let backend = tables.connect(&server.url()).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    let mut other = ask("other", LONG);
    other.lock_id = request.lock_id;
    let error = error_of(backend.acquire(&other).await, ErrorKind::Aborted);
    assert!(!error.may_have_applied());
    assert!(is_locked(&backend, "job").await && !is_locked(&backend, "other").await);
    assert_eq!(granted(&backend, &ask("other", LONG)).await.fence.number(), 1);
}

/// Lists all locks page by page, and returns their keys and the number of pages.
pub async fn listed(backend: &impl LockBackend, limit: usize) -> (Vec<String>, usize) {
    let (mut keys, mut request, mut pages) = (Vec::new(), ListRequest::new("").limit(limit), 0);
    loop {
        let page = backend.list(&request).await.unwrap();
        keys.extend(page.locks.into_iter().map(|lock| lock.key.as_str().to_owned()));
        pages += 1;
        request.after = page.next;
        if request.after.is_none() {
            return (keys, pages);
        }
    }
}
