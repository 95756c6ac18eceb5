//! The operations for operators: list and force release.

use super::{CaseOutcome, Harness, steps::*};
use crate::{
    ErrorKind,
    backend::{ListRequest, LockBackend, LockRecord},
};

/// The held locks below a prefix are listed once each, in pages, as lookups return them; others are
/// not listed.
pub async fn held_locks_are_listed_page_by_page<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let a = h.client().await;
    if !a.capabilities().list {
        error_of(a.list(&ListRequest::new("")).await, ErrorKind::Unsupported);
        return Err(NO_OPERATIONS);
    }
    let names: Vec<_> = (0..7).map(|n| format!("job:{n}")).collect();
    let others = ["jo", "other", "JOB:1", "job_1", "a:job:1"];
    for name in names.iter().map(String::as_str).chain(others) {
        granted(&a, &request_for(name, LONG)).await;
    }
    let gone = request_for("job:gone", LONG);
    granted(&a, &gone).await;
    released(&a, lock_of(&gone)).await;
    let mut found = listed(&a, "job:", 3).await;
    for lock in &found {
        let known = a.lookup(&lock.lock_id.into()).await.expect("answers").expect("is held");
        assert_eq!((&known.key, known.fence), (&lock.key, lock.fence));
    }
    found.sort_by(|one, other| one.key.cmp(&other.key));
    let found: Vec<_> = found.iter().map(|lock| lock.key.as_str()).collect();
    assert_eq!(found, names);
    Ok(())
}

/// A lock in its grace is listed, an expired one is not.
pub async fn expired_locks_are_not_listed<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let a = h.client().await;
    if !a.capabilities().list {
        return Err(NO_OPERATIONS);
    }
    granted(&a, &request_for("k", SHORT)).await;
    h.advance(SHORT + a.capabilities().grace / 3).await;
    assert_eq!(listed(&a, "", 10).await.len(), usize::from(is_locked(&a, "k").await));
    expire(&h, &a, SHORT).await;
    assert!(listed(&a, "", 10).await.is_empty());
    Ok(())
}

/// Reads all pages.
pub(super) async fn listed(a: &impl LockBackend, prefix: &str, limit: usize) -> Vec<LockRecord> {
    let (mut found, mut request) = (Vec::new(), ListRequest::new(prefix).limit(limit));
    loop {
        let page = a.list(&request).await.expect("answers");
        assert!(page.locks.len() <= limit, "{} on a page of {limit}", page.locks.len());
        found.extend(page.locks);
        match page.next {
            Some(next) => request = request.after(next),
            None => return found,
        }
    }
}

/// A lock that is released by force is free; its holder notices, and the next fence is higher.
pub async fn a_lock_released_by_force_is_free<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = (h.client().await, h.client().await);
    let request = request_for("k", LONG);
    if !a.capabilities().list {
        error_of(b.force_release(&request.key).await, ErrorKind::Unsupported);
        return Err(NO_OPERATIONS);
    }
    assert!(b.force_release(&request.key).await.expect("answers").is_none());
    granted(&a, &request).await;
    let record = b.force_release(&request.key).await.expect("answers").expect("was held");
    assert_eq!((record.lock_id, record.fence.number()), (request.lock_id, 1));
    assert!(!is_locked(&a, "k").await);
    extend_reports_not_held(&a, lock_of(&request)).await;
    assert_eq!(granted(&b, &request_for("k", LONG)).await.fence.number(), 2);
    Ok(())
}
