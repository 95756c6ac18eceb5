//! Guards, waits and work in shared mode, through the lock API.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::task::JoinSet;

use super::{CaseOutcome, Fault, Faulty, Harness, steps::*};
use crate::{
    ErrorKind, LockGuard, LockManager, Operation, Renew, TryAcquireOutcome, backend::Mode,
};

const TWO_PERMITS: Mode = Mode::Shared { permits: NonZeroU32::new(2) };

/// Acquires "k" in shared mode.
async fn shared(locks: &LockManager) -> LockGuard {
    let lock = locks.lock("k").mode(Mode::SHARED).ttl(LONG).wait(LONG);
    lock.acquire().await.expect("it is granted the lock")
}

/// Guards of one process and of several share a key, each under its own fence.
pub async fn guards_share_a_key<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (mine, theirs) = (LockManager::new(a), LockManager::new(b));
    let guards = [shared(&mine).await, shared(&mine).await, shared(&theirs).await];
    let fences = guards.each_ref().map(|guard| guard.fence().expect("is held").number());
    assert_eq!(fences, [1, 2, 3]);
    let attempt = theirs.lock("k").try_acquire().await.expect("the store answers");
    let TryAcquireOutcome::Contended(Some(holder)) = attempt else { panic!("{attempt:?}") };
    assert_eq!(holder.mode, Mode::SHARED);
    Ok(())
}

/// A shared guard extends its own grant.
pub async fn a_shared_guard_extends_its_own_grant<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let locks = LockManager::new(a);
    let (guard, other) = (shared(&locks).await, shared(&locks).await);
    let before = record_of(&b, "k").await.holders;
    guard.extend(LONG * 2).await.expect("is extended");
    assert!(guard.remaining() > LONG && other.remaining() <= LONG);
    let after = record_of(&b, "k").await.holders;
    assert!(after[0].expires_at > before[0].expires_at, "{after:?}");
    assert_eq!(after[1], before[1]);
    Ok(())
}

/// A shared guard that renews keeps its grant beyond its ttl, and the key from writers.
pub async fn a_renewing_shared_guard_keeps_its_grant<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let locks = LockManager::new(a);
    let lock = locks.lock("k").mode(Mode::SHARED).ttl(BRIEF).renew(Renew::Auto);
    let guard = lock.acquire().await.expect("is free");
    expire(&h, &b, BRIEF).await;
    assert!(guard.is_valid());
    contended(&b, &request_for("k", LONG)).await;
    granted(&b, &reader_for("k", LONG)).await;
    Ok(())
}

/// A dropped shared guard releases its own grant, and leaves those of others.
pub async fn a_dropped_shared_guard_leaves_the_others<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let locks = LockManager::new(a);
    let (dropped, kept) = (shared(&locks).await, shared(&locks).await);
    drop(dropped);
    eventually("one guard is released", async || sharers_of(&b, "k").await.len() == 1).await;
    assert_eq!(sharers_of(&b, "k").await, [kept.lock_id()]);
    assert!(kept.is_valid());
    drop(kept);
    drained(&locks).await;
    assert!(!is_locked(&b, "k").await);
    Ok(())
}

/// A shared guard whose grant is ended by another client is lost, and the others are not.
pub async fn a_shared_guard_that_is_lost_leaves_the_others<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let locks = LockManager::new(a);
    let (lost, kept) = (shared(&locks).await, shared(&locks).await);
    released(&b, lost.lock_id().into()).await;
    error_of(lost.extend(LONG).await, ErrorKind::Lost);
    assert!(!lost.is_valid());
    kept.extend(LONG).await.expect("is extended");
    assert!(kept.is_valid());
    Ok(())
}

/// Work in shared mode runs beside other readers, and leaves its key when it ends.
pub async fn work_in_shared_mode_runs_beside_readers<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let reader = reader_for("k", LONG);
    granted(&b, &reader).await;
    let locks = LockManager::new(a);
    let run = locks.lock("k").mode(Mode::SHARED).run(async |lease| {
        assert_eq!(sharers_of(&b, "k").await, [reader.lock_id, lease.lock_id()]);
        contended(&b, &request_for("k", LONG)).await;
    });
    run.await.expect("is held throughout");
    assert_eq!(sharers_of(&b, "k").await, [reader.lock_id]);
    Ok(())
}

/// A waiting writer is granted the lock after the last reader has left, and a waiting reader after
/// the writer.
pub async fn waiters_are_granted_a_key_in_the_other_mode<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (mine, theirs) = (LockManager::new(a), LockManager::new(b));
    let readers = [shared(&theirs).await, shared(&theirs).await];
    let writer = tokio::spawn(mine.lock("k").wait(LONG).ttl(LONG).acquire());
    for reader in readers {
        assert!(!writer.is_finished());
        reader.release().await.expect("the store answers");
    }
    let writer = writer.await.expect("no panic").expect("it is granted the lock");
    let reader = tokio::spawn(theirs.lock("k").mode(Mode::SHARED).wait(LONG).acquire());
    tokio::task::yield_now().await;
    assert!(!reader.is_finished());
    writer.release().await.expect("the store answers");
    drop(reader.await.expect("no panic").expect("it is granted the lock"));
    Ok(())
}

/// The tasks of two processes that wait for permits are all served, and never hold more than there
/// are.
pub async fn waiters_for_permits_are_all_served<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let processes = [LockManager::new(a), LockManager::new(b)];
    let inside = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (locks, inside) = (processes[task % 2].clone(), inside.clone());
        tasks.spawn(async move {
            let work = async |_| {
                let others = inside.fetch_add(1, Ordering::SeqCst);
                assert!(others < 2, "{others} others are inside");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            };
            let lock = locks.lock("k").mode(TWO_PERMITS).wait(LONG).ttl(LONG);
            lock.run(work).await.expect("it is granted a permit");
        });
    }
    assert_eq!(tasks.join_all().await.len(), 8);
    Ok(())
}

/// Another number of permits is reported immediately, not when the wait has ended.
pub async fn another_number_of_permits_ends_the_wait<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&b, &permit_for("k", 3, LONG)).await;
    let locks = LockManager::new(a);
    let result = locks.lock("k").mode(TWO_PERMITS).wait(LONG).acquire().await;
    let error = error_of(result, ErrorKind::InvalidArgument);
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(sharers_of(&b, "k").await.len(), 1);
    Ok(())
}

/// If the reply to a request in shared mode is lost, the request is repeated and returns the same
/// grant, beside other readers.
pub async fn a_lost_reply_leaves_one_shared_grant<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let faulty = Faulty::new(a);
    let locks = LockManager::new(faulty.clone());
    let present = reader_for("k", LONG);
    granted(&b, &present).await;
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    let guard = shared(&locks).await;
    assert_eq!(faulty.planned(), 0, "the reply was lost");
    assert_eq!(guard.fence().expect("is held").number(), 2);
    assert_eq!(sharers_of(&b, "k").await, [present.lock_id, guard.lock_id()]);
    Ok(())
}

/// If no reply to a request in shared mode arrives, its grant is abandoned, and other readers keep
/// theirs.
pub async fn a_shared_grant_without_a_reply_is_abandoned<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let faulty = Faulty::new(a);
    let locks = LockManager::new(faulty.clone());
    let present = reader_for("k", LONG);
    granted(&b, &present).await;
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    faulty.plan(Operation::Acquire, Fault::ReplyLost);
    let attempt = locks.lock("k").mode(Mode::SHARED).ttl(LONG).try_acquire().await;
    error_of(attempt, ErrorKind::Ambiguous);
    drained(&locks).await;
    assert_eq!(sharers_of(&b, "k").await, [present.lock_id]);
    assert_eq!(granted(&b, &reader_for("k", LONG)).await.fence.number(), 3, "it was granted");
    Ok(())
}

/// What the lock API shows of shared holders contains no id in clear.
pub async fn lookups_of_shared_locks_return_hashes<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, _) = sharing_clients(&h).await?;
    let locks = LockManager::new(a);
    let guards = [shared(&locks).await, shared(&locks).await];
    for info in [
        locks.lookup("k").await.expect("the store answers").expect("is held"),
        locks.lookup_by_id(guards[1].lock_id()).await.expect("the store answers").expect("is held"),
    ] {
        let shown: Vec<_> = info.holders.iter().map(|holder| holder.lock_id).collect();
        assert_eq!(shown, guards.each_ref().map(|guard| guard.lock_id().display_hash()));
        let text = format!("{info:?}");
        assert!(guards.iter().all(|guard| !text.contains(guard.lock_id().as_str())), "{text}");
    }
    for guard in &guards {
        assert!(locks.owns(guard.lock_id()).await.expect("the store answers"));
    }
    Ok(())
}
