//! Several runtimes, and none.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, ListRequest, LockBackend, LockManager, LockQuery, TryAcquireOutcome,
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, extended, granted, is_contended, key, lock_of, released, ttl,
};
use tokio::runtime::{Builder, Runtime};

use crate::{config, connect, start, wakeups::subscribed};

/// How long something has that would otherwise never happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

/// One that runs only while someone blocks on it.
fn idle() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Polls a future once.
async fn begin(future: &mut Pin<&mut (impl Future + Send)>) {
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
fn a_runtime_that_is_no_longer_driven_stops_no_other() {
    let (first, second) = (idle(), runtime());
    let emulator = second.block_on(start());
    let backend = FirestoreBackend::connect(config(&emulator).request_timeout(PATIENCE)).unwrap();
    let (left_alone, waited_for) = (ask("left alone", LONG), key("job"));
    let mut acquire = pin!(backend.acquire(&left_alone));
    let mut news = pin!(backend.released(&waited_for));
    let by_id = LockQuery::ById(left_alone.lock_id);
    let mut lookup = pin!(backend.lookup(&by_id));
    first.block_on(async {
        begin(&mut acquire).await;
        begin(&mut news).await;
        begin(&mut lookup).await;
    });
    let through = async {
        let request = ask("job", LONG);
        granted(&backend, &request).await;
        assert!(is_contended(&backend, "job").await);
        assert!(extended(&backend, &request).await);
        assert!(backend.lookup(&by_id).await.unwrap().is_none());
        subscribed(&backend, "job").await;
        let mut news = pin!(backend.released(&request.key));
        begin(&mut news).await;
        assert!(released(&backend, &request).await);
        news.await;
    };
    second.block_on(async { tokio::time::timeout(PATIENCE, through).await.unwrap() });
}

/// The waiter of the first runtime is the one for which the listening began.
#[test]
fn a_waiter_is_woken_after_the_runtime_has_ended_on_which_another_one_waited() {
    let (first, second) = (runtime(), runtime());
    let emulator = second.block_on(start());
    let (backend, theirs) = (connect(&emulator), connect(&emulator));
    let (request, job) = (ask("job", LONG), key("job"));
    second.block_on(granted(&theirs, &request));
    first.block_on(subscribed(&backend, "job"));
    second.block_on(subscribed(&backend, "job"));
    let mut news = pin!(backend.released(&job));
    second.block_on(begin(&mut news));
    drop(first);
    second.block_on(async {
        assert!(released(&theirs, &request).await);
        tokio::time::timeout(PATIENCE, news).await.unwrap();
    });
}

/// Polls a future where there is no runtime.
fn without_runtime<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn refused<T: std::fmt::Debug>(future: impl Future<Output = Result<T, Error>>) {
    let Poll::Ready(result) = without_runtime(future) else { panic!("it waits silently") };
    assert!(!error_of(result, ErrorKind::ServiceUnavailable).may_have_applied());
}

#[test]
fn without_a_runtime_every_operation_is_refused_and_none_panics() {
    let server = runtime();
    let emulator = server.block_on(start());
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    let used = ask("used", LONG);
    server.block_on(granted(&backend, &used));
    for request in [request, used] {
        let lock = lock_of(&request);
        refused(backend.acquire(&request));
        refused(backend.extend(&lock, ttl(LONG)));
        refused(backend.release(&lock));
        refused(backend.abandon(request.lock_id, &request.key));
        refused(backend.lookup(&LockQuery::ById(request.lock_id)));
        refused(backend.lookup(&LockQuery::ByKey(request.key.clone())));
        refused(backend.list(&ListRequest::new("")));
        refused(backend.force_release(&request.key));
        refused(backend.check());
        assert!(without_runtime(backend.released(&request.key)).is_pending());
    }
}
