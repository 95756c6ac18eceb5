//! Several runtimes, and none.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, LockManager, TryAcquireOutcome,
    backend::{ListRequest, LockBackend, LockQuery},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, extended, granted, is_contended, key, lock_of, released, ttl,
};
use tokio::runtime::{Builder, Runtime};

use crate::{config, connect, start, wakeups::subscribed};

/// The maximum time for an event that might otherwise never happen.
const TIMEOUT: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

/// Creates a runtime that runs only while a thread blocks on it.
fn idle() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Polls a future once.
async fn poll_once(future: &mut Pin<&mut (impl Future + Send)>) {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
}

#[test]
fn a_guard_of_one_runtime_is_extended_and_released_on_another() {
    let (first, second) = (runtime(), runtime());
    let emulator = second.block_on(start());
    let locks = LockManager::new(connect(&emulator));
    let acquire = async { locks.lock("job").ttl(LONG).try_acquire().await.unwrap() };
    let TryAcquireOutcome::Acquired(guard) = first.block_on(acquire) else { panic!("it is free") };
    second.block_on(async {
        guard.extend(LONG).await.unwrap();
        guard.release().await.unwrap();
    });
}

#[test]
fn a_backend_outlives_the_runtime_that_it_was_opened_and_used_on() {
    let (first, second) = (runtime(), runtime());
    let emulator = second.block_on(start());
    let (backend, request) = first.block_on(async {
        let (backend, request) = (connect(&emulator), ask("job", LONG));
        granted(&backend, &request).await;
        (backend, request)
    });
    drop(first);
    second.block_on(async {
        assert!(extended(&backend, &request).await);
        assert!(released(&backend, &request).await);
    });
}

#[test]
fn a_runtime_that_is_no_longer_driven_blocks_no_other() {
    let (first, second) = (idle(), runtime());
    let emulator = second.block_on(start());
    let backend = FirestoreBackend::connect(config(&emulator).request_timeout(TIMEOUT)).unwrap();
    let (unpolled, waited_for) = (ask("left alone", LONG), key("job"));
    let mut acquire = pin!(backend.acquire(&unpolled));
    let mut notified = pin!(backend.released(&waited_for));
    let by_id = LockQuery::ById(unpolled.lock_id);
    let mut lookup = pin!(backend.lookup(&by_id));
    first.block_on(async {
        poll_once(&mut acquire).await;
        poll_once(&mut notified).await;
        poll_once(&mut lookup).await;
    });
    let operations = async {
        let request = ask("job", LONG);
        granted(&backend, &request).await;
        assert!(is_contended(&backend, "job").await);
        assert!(extended(&backend, &request).await);
        assert!(backend.lookup(&by_id).await.unwrap().is_none());
        subscribed(&backend, "job").await;
        let mut notified = pin!(backend.released(&request.key));
        poll_once(&mut notified).await;
        assert!(released(&backend, &request).await);
        notified.await;
    };
    second.block_on(async { tokio::time::timeout(TIMEOUT, operations).await.unwrap() });
}

/// The waiter on the first runtime is the first to subscribe.
#[test]
fn a_waiter_is_notified_after_the_runtime_of_another_waiter_has_ended() {
    let (first, second) = (runtime(), runtime());
    let emulator = second.block_on(start());
    let (backend, theirs) = (connect(&emulator), connect(&emulator));
    let (request, job) = (ask("job", LONG), key("job"));
    second.block_on(granted(&theirs, &request));
    first.block_on(subscribed(&backend, "job"));
    second.block_on(subscribed(&backend, "job"));
    let mut notified = pin!(backend.released(&job));
    second.block_on(poll_once(&mut notified));
    drop(first);
    second.block_on(async {
        assert!(released(&theirs, &request).await);
        tokio::time::timeout(TIMEOUT, notified).await.unwrap();
    });
}

/// Polls a future once, outside of a runtime.
fn without_runtime<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn assert_refused<T: std::fmt::Debug>(future: impl Future<Output = Result<T, Error>>) {
    let Poll::Ready(result) = without_runtime(future) else { panic!("it waits silently") };
    assert!(!error_of(result, ErrorKind::Internal).may_have_applied());
}

#[test]
fn outside_of_a_runtime_every_operation_is_refused_and_none_panics() {
    let server = runtime();
    let emulator = server.block_on(start());
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    let used = ask("used", LONG);
    server.block_on(granted(&backend, &used));
    for request in [request, used] {
        let lock = lock_of(&request);
        assert_refused(backend.acquire(&request));
        assert_refused(backend.extend(&lock, ttl(LONG)));
        assert_refused(backend.release(&lock));
        assert_refused(backend.abandon(request.lock_id, &request.key));
        assert_refused(backend.lookup(&LockQuery::ById(request.lock_id)));
        assert_refused(backend.lookup(&LockQuery::ByKey(request.key.clone())));
        assert_refused(backend.list(&ListRequest::new("")));
        assert_refused(backend.force_release(&request.key));
        assert_refused(backend.check());
        assert!(without_runtime(backend.released(&request.key)).is_pending());
    }
}
