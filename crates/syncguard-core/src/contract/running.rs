//! Work under a lock.

use std::time::Duration;

use super::{Fault, Faulty, Harness, steps::*};
use crate::{ErrorKind, LockManager, Operation, RunOutcome, backend::LockBackend};

/// `run` holds the lock while the work runs, returns its result, and has released when it returns.
pub async fn work_runs_under_the_lock_and_its_result_is_returned<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let result = locks.lock("k").run(async |lease| {
        contended(&a, &request_for("k", LONG)).await;
        lease.fence().expect("is held").number()
    });
    assert_eq!(result.await.expect("is held throughout"), 1);
    assert!(!is_locked(&a, "k").await);
}

/// `try_run` skips the work if another holder has the lock, and returns that holder.
pub async fn work_is_skipped_if_the_lock_is_held<H: Harness>(h: H) {
    let (mine, theirs) = (LockManager::new(h.client().await), LockManager::new(h.client().await));
    let ran = mine.lock("k").try_run(async |_| 7).await.expect("answers");
    assert_eq!(ran, RunOutcome::Completed(7));
    let guard = theirs.lock("k").owner("them").try_acquire().await.expect("answers").acquired();
    let skipped = mine.lock("k").try_run(async |_| unreachable!("it is held")).await;
    let Ok(RunOutcome::<()>::Skipped(Some(holder))) = skipped else { panic!("{skipped:?}") };
    assert_eq!(holder.owner.expect("it is known").as_str(), "them");
    drop(guard);
}

/// The lock is renewed while the work runs.
pub async fn work_that_outlasts_the_ttl_keeps_the_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let grace = a.capabilities().grace;
    let run = locks.lock("k").ttl(BRIEF).run(async |lease| {
        h.advance(BRIEF + grace + SLACK).await;
        contended(&a, &request_for("k", LONG)).await;
        assert!(lease.is_valid());
    });
    run.await.expect("the lock is kept");
}

/// Work is cancelled when the store reports that the lock is not held, and the caller gets an
/// error.
pub async fn work_is_cancelled_when_the_lock_is_lost<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let cancelled = std::sync::atomic::AtomicBool::new(false);
    struct Flag<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Flag<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let run = locks.lock("k").ttl(SHORT).run(async |lease| {
        let _flag = Flag(&cancelled);
        released(&a, lease.lock_id().into()).await;
        std::future::pending::<()>().await;
    });
    let error = error_of(run.await, ErrorKind::Lost);
    assert!(!error.is_retryable());
    assert!(cancelled.load(std::sync::atomic::Ordering::SeqCst), "the work was dropped");
}

/// Work is cancelled before the store's expiry if the store is unreachable.
pub async fn work_is_cancelled_before_the_lease_ends_if_the_store_is_unreachable<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let run = locks.lock("k").ttl(Duration::from_millis(600)).run(async |_| {
        for _ in 0..1_000 {
            faulty.plan(Operation::Extend, Fault::RequestLost);
        }
        std::future::pending::<()>().await;
    });
    error_of(run.await, ErrorKind::Lost);
    assert!(faulty.planned() < 1_000, "renewals were attempted");
    // The key cannot have been granted to another holder while the work ran: the grace is not over.
    drained(&locks).await;
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 2);
}

/// Work that blocks its thread past the deadline is not reported as done under the lock.
pub async fn work_that_blocks_past_the_deadline_is_reported_as_lost<H: Harness>(h: H) {
    let locks = LockManager::new(h.client().await);
    let run = locks.lock("k").ttl(SHORT).renew(crate::Renew::Never).run(async |_| {
        std::thread::sleep(SHORT);
    });
    error_of(run.await, ErrorKind::Lost);
}

/// A panic in the work releases the lock and propagates.
pub async fn a_panic_in_the_work_releases_the_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let run = locks.lock("k").run(async |_| -> () { panic!("the work panics") });
    assert!(tokio::spawn(run).await.expect_err("it panics").is_panic());
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// Work that hangs is cancelled by `max_hold`.
pub async fn work_that_hangs_is_cancelled_by_max_hold<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let run = locks.lock("k").max_hold(SHORT).run(async |_| std::future::pending::<()>().await);
    error_of(run.await, ErrorKind::Lost);
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// If the release after the work fails, the caller still gets the result of the work.
pub async fn a_failed_release_keeps_the_result<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Release, Fault::RequestLost);
    assert_eq!(locks.lock("k").run(async |_| 7).await.expect("the work is done"), 7);
    assert_eq!(faulty.planned(), 0);
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}
