//! What operators do: list and force.

use super::{Harness, steps::*};
use crate::{ErrorKind, ListRequest, LockBackend};

/// The held locks below a prefix are listed once each, in pages; others are not.
pub async fn held_locks_are_listed_page_by_page<H: Harness>(h: H) {
    let a = h.client().await;
    if !a.capabilities().list {
        error_of(a.list(&ListRequest::new("")).await, ErrorKind::Unsupported);
        return;
    }
    let names: Vec<_> = (0..7).map(|n| format!("job:{n}")).collect();
    for name in names.iter().map(String::as_str).chain(["jo", "other", "JOB:1", "job_1"]) {
        granted(&a, &ask(name, LONG)).await;
    }
    let gone = ask("job:gone", LONG);
    granted(&a, &gone).await;
    released(&a, lock_of(&gone)).await;
    let (mut found, mut request) = (Vec::new(), ListRequest::new("job:").limit(3));
    loop {
        let page = a.list(&request).await.expect("answers");
        found.extend(page.locks.iter().map(|lock| lock.key.as_str().to_owned()));
        let Some(next) = page.next else { break };
        request = request.after(next);
    }
    found.sort();
    assert_eq!(found, names);
}

/// A lock that is released by force is free; its holder finds out, and the next fence is higher.
pub async fn a_lock_released_by_force_is_free<H: Harness>(h: H) {
    let (a, b) = (h.client().await, h.client().await);
    let request = ask("k", LONG);
    if !a.capabilities().list {
        error_of(b.force_release(&request.key).await, ErrorKind::Unsupported);
        return;
    }
    assert!(b.force_release(&request.key).await.expect("answers").is_none());
    granted(&a, &request).await;
    let record = b.force_release(&request.key).await.expect("answers").expect("was held");
    assert_eq!((record.lock_id, record.fence.number()), (request.lock_id, 1));
    assert!(!is_locked(&a, "k").await);
    extend_finds_nothing(&a, lock_of(&request)).await;
    assert_eq!(granted(&b, &ask("k", LONG)).await.fence.number(), 2);
}
