//! Callers that are dropped or cancelled.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{Fault, Faulty, Gate, Harness, steps::*};
use crate::{ErrorKind, LockManager, Operation, backend::LockBackend};

/// Polls a future this many times, and drops it. Returns whether it completed before that.
async fn poll_and_drop<F: Future>(future: F, polls: usize) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        if poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await {
            return true;
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    false
}

/// An attempt that is dropped at any of its awaits leaves no lock behind.
pub async fn an_attempt_dropped_at_any_await_leaves_no_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    for polls in 0..40 {
        let ended = poll_and_drop(locks.lock("k").ttl(LONG).try_acquire(), polls).await;
        drained(&locks).await;
        assert!(!is_locked(&a, "k").await, "dropped after {polls} polls");
        if ended && polls > 5 {
            break;
        }
    }
}

/// A wait that is dropped at any of its awaits leaves no lock behind, and the waiters behind it
/// proceed.
pub async fn a_wait_dropped_at_any_await_leaves_no_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    for polls in 0..20 {
        let guard = held(&locks, "k", LONG).await;
        let behind = tokio::spawn(locks.lock("k").wait(LONG).ttl(LONG).acquire());
        assert!(!poll_and_drop(locks.lock("k").wait(LONG).acquire(), polls).await);
        guard.release().await.expect("answers");
        drop(behind.await.expect("no panic").expect("it is granted the lock"));
        drained(&locks).await;
        assert!(!is_locked(&a, "k").await, "dropped after {polls} polls");
    }
}

/// If dropped at any of its awaits, `run` leaves no lock behind.
pub async fn a_run_dropped_at_any_await_leaves_no_lock<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    for polls in 0..40 {
        let work = async |_| tokio::time::sleep(Duration::from_millis(2)).await;
        let ended = poll_and_drop(locks.lock("k").ttl(LONG).run(work), polls).await;
        drained(&locks).await;
        assert!(!is_locked(&a, "k").await, "dropped after {polls} polls");
        if ended && polls > 5 {
            break;
        }
    }
}

/// A release or an extend that is dropped while in flight leaves the store consistent.
pub async fn a_release_dropped_at_any_await_is_carried_out<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    for polls in 0..10 {
        let guard = held(&locks, "k", LONG).await;
        poll_and_drop(guard.extend(LONG), polls).await;
        assert!(guard.is_valid());
        poll_and_drop(guard.release(), polls).await;
        drained(&locks).await;
        assert!(!is_locked(&a, "k").await, "dropped after {polls} polls");
    }
}

/// A grant that the store makes after its caller was dropped is released.
pub async fn a_grant_made_after_its_caller_was_dropped_is_released<H: Harness>(h: H) {
    let a = h.client().await;
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    for hold in [Fault::RequestDelayed, Fault::ReplyDelayed] {
        let gate = Gate::new();
        faulty.plan(Operation::Acquire, hold(gate.clone()));
        let attempt = locks.lock("k").ttl(LONG).try_acquire();
        tokio::select! {
            _ = attempt => panic!("the gate is closed"),
            () = gate.reached() => {}
        }
        gate.open();
        drained(&locks).await;
        assert!(!is_locked(&a, "k").await);
    }
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 3);
}

/// A cancelled token immediately ends a wait, an attempt in flight, and work under the lock.
pub async fn a_cancelled_token_ends_the_wait_and_the_work<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let guard = held(&locks, "k", LONG).await;
    let token = CancellationToken::new();
    let wait = tokio::spawn(locks.lock("k").wait(LONG).cancel_on(token.clone()).acquire());
    tokio::time::sleep(Duration::from_millis(20)).await;
    token.cancel();
    error_of(wait.await.expect("no panic"), ErrorKind::Aborted);
    drop(guard);
    drained(&locks).await;

    let token = CancellationToken::new();
    let run = locks.lock("k").cancel_on(token.clone()).run(async |_| {
        token.cancel();
        std::future::pending::<()>().await;
    });
    error_of(run.await, ErrorKind::Aborted);
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// If the token is already cancelled, nothing is sent.
pub async fn a_call_with_a_cancelled_token_sends_nothing<H: Harness>(h: H) {
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    let token = CancellationToken::new();
    token.cancel();
    faulty.plan(Operation::Acquire, Fault::NotSent);
    let lock = || locks.lock("k").cancel_on(token.clone());
    error_of(lock().try_acquire().await, ErrorKind::Aborted);
    error_of(lock().acquire().await, ErrorKind::Aborted);
    error_of(lock().run(async |_| ()).await, ErrorKind::Aborted);
    error_of(lock().try_run(async |_| ()).await, ErrorKind::Aborted);
    assert_eq!(faulty.planned(), 1, "no request met the fault");
}

/// A cancelled token immediately ends an attempt in flight. A grant that results from it is
/// released.
pub async fn a_cancelled_token_ends_an_attempt_in_flight<H: Harness>(h: H) {
    let (a, gate, token) = (h.client().await, Gate::new(), CancellationToken::new());
    let faulty = Faulty::new(h.client().await);
    let locks = LockManager::new(faulty.clone());
    faulty.plan(Operation::Acquire, Fault::ReplyDelayed(gate.clone()));
    let attempt = tokio::spawn(locks.lock("k").ttl(LONG).cancel_on(token.clone()).try_acquire());
    gate.reached().await;
    assert!(a.is_locked(&key("k")).await.expect("answers"), "it was granted");
    token.cancel();
    error_of(attempt.await.expect("no panic"), ErrorKind::Aborted);
    gate.open();
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}

/// Everything that was requested through a scope ends with its token, and nothing else does.
pub async fn a_cancelled_scope_ends_its_locks_and_its_waits<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let (outer, inner) = (CancellationToken::new(), CancellationToken::new());
    let scope = locks.child(outer.clone()).child(inner.clone());
    let beside = held(&locks.child(inner.clone()), "beside", LONG).await;
    let aside = held(&locks, "aside", LONG).await;
    let held = held(&scope, "held", LONG).await;
    let wait = tokio::spawn(scope.lock("aside").wait(LONG).acquire());
    let run = scope.lock("work").run(async |_| {
        outer.cancel();
        std::future::pending::<()>().await;
    });
    error_of(run.await, ErrorKind::Aborted);
    error_of(wait.await.expect("no panic"), ErrorKind::Aborted);
    held.lost().await;
    assert_eq!(held.loss(), Some(crate::Loss::Cancelled));
    error_of(held.fence(), ErrorKind::Lost);
    error_of(scope.lock("late").try_acquire().await, ErrorKind::Aborted);
    assert!(aside.is_valid() && beside.is_valid());
    drop(held);
    inner.cancel();
    beside.lost().await;
    drop(beside);
    drained(&locks).await;
    for key in ["held", "work", "late", "beside"] {
        assert!(!is_locked(&a, key).await, "{key}");
    }
}

/// The key stays locked until the guard is dropped, because the work under the lock may not have
/// noticed that its scope was cancelled.
pub async fn a_guard_of_a_cancelled_scope_keeps_its_key_until_it_is_dropped<H: Harness>(h: H) {
    let a = h.client().await;
    let locks = LockManager::new(h.client().await);
    let token = CancellationToken::new();
    let guard = held(&locks.child(token.clone()), "k", LONG).await;
    token.cancel();
    guard.lost().await;
    drained(&locks).await;
    contended(&a, &request_for("k", LONG)).await;
    drop(guard);
    drained(&locks).await;
    assert!(!is_locked(&a, "k").await);
}
