//! A backend and the runtimes of its callers.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireOutcome, LockBackend, LockRef},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, extended, granted, is_locked, key, lock_of, released, ttl},
    server::RedisServer,
};
use tokio::runtime::{Builder, Runtime};

use crate::{config, connect, safe};

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future outside of any runtime.
fn wait_for<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn a_grant_made_on_a_runtime_that_ended_is_released_on_that_of_the_backend() {
    let (theirs, home) = (runtime(), runtime());
    let server = home.block_on(safe().start()).unwrap();
    let backend = home.block_on(connect(&server.url()));
    let request = ask("job", LONG);
    theirs.block_on(granted(&backend, &request));
    // In flight when its runtime ends.
    let (contender, contended) = (backend.clone(), ask("job", LONG));
    theirs.spawn(async move { drop(contender.acquire(&contended).await) });
    drop(theirs);
    home.block_on(async {
        assert!(extended(&backend, &request).await);
        assert!(released(&backend, &request).await);
        assert!(!is_locked(&backend, "job").await);
    });
}

#[test]
fn operations_work_outside_of_any_runtime() {
    let home = runtime();
    let server = home.block_on(safe().start()).unwrap();
    let backend = home.block_on(connect(&server.url()));
    let request = ask("job", LONG);
    let outcome = wait_for(backend.acquire(&request)).unwrap();
    assert!(matches!(outcome, AcquireOutcome::Granted(_)));
    assert!(wait_for(extended(&backend, &request)));
    let by_id: LockRef = request.lock_id.into();
    wait_for(backend.release(&by_id)).unwrap();
    assert!(!wait_for(is_locked(&backend, "job")));
}

/// Calls each operation and returns its error.
async fn errors_of(backend: &RedisBackend) -> Vec<Error> {
    let request = ask("job", LONG);
    let (lock, by_id): (_, LockRef) = (lock_of(&request), request.lock_id.into());
    vec![
        backend.acquire(&request).await.unwrap_err(),
        backend.extend(&lock, ttl(LONG)).await.unwrap_err(),
        backend.extend(&by_id, ttl(LONG)).await.unwrap_err(),
        backend.release(&lock).await.unwrap_err(),
        backend.release(&by_id).await.unwrap_err(),
        backend.abandon(request.lock_id, &request.key).await.unwrap_err(),
        backend.lookup(&key("job").into()).await.unwrap_err(),
        backend.list(&syncguard_core::backend::ListRequest::new("")).await.unwrap_err(),
        backend.force_release(&key("job")).await.unwrap_err(),
        backend.check().await.unwrap_err(),
    ]
}

#[test]
fn after_the_runtime_of_the_backend_ended_each_operation_fails_and_sends_nothing() {
    for home in [runtime(), single()] {
        let other = runtime();
        let server: RedisServer = other.block_on(safe().start()).unwrap();
        let backend = home.block_on(connect(&server.url()));
        let request = ask("held", LONG);
        home.block_on(granted(&backend, &request));
        drop(home);
        let inside = other.block_on(errors_of(&backend));
        let outside = wait_for(errors_of(&backend));
        for error in inside.into_iter().chain(outside) {
            assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
            assert!(!error.may_have_applied() && !error.is_retryable(), "{error:?}");
            assert!(error.to_string().contains("runtime"), "{error}");
        }
        let names = other.block_on(server.command(&["DBSIZE"])).unwrap();
        assert_eq!(names, "3", "the lock, its counter and its mark, as before");
    }
}

#[test]
fn a_request_in_flight_when_the_runtime_of_the_backend_ends_may_have_applied() {
    let (home, other) = (runtime(), runtime());
    let server = other.block_on(safe().start()).unwrap();
    let backend = home.block_on(connect(&server.url()));
    server.pause().unwrap();
    let acquire = other.spawn(async move { backend.acquire(&ask("job", LONG)).await });
    // Long enough to be sent; the server does not answer.
    thread::sleep(Duration::from_millis(300));
    home.shutdown_background();
    let error = other.block_on(acquire).unwrap().unwrap_err();
    server.resume().unwrap();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    assert!(error.may_have_applied(), "{error:?}");
}

#[test]
fn the_wait_for_a_runtime_that_is_not_driven_is_bounded() {
    let (home, other) = (single(), runtime());
    let server = other.block_on(safe().start()).unwrap();
    let limit = Duration::from_millis(200);
    let config = config(&server.url()).command_timeout(limit).connect_timeout(5 * limit);
    let backend = home.block_on(RedisBackend::connect(config)).unwrap();
    for error in other.block_on(errors_of(&backend)) {
        assert_eq!(error.kind(), ErrorKind::NetworkTimeout, "{error:?}");
    }
    // The requests are not sent later, because they have no waiter any more.
    home.block_on(async { tokio::time::sleep(limit).await });
    assert_eq!(other.block_on(server.command(&["DBSIZE"])).unwrap(), "0");
}

#[test]
fn a_backend_is_not_opened_outside_of_a_runtime() {
    let error = wait_for(RedisBackend::connect(config("redis://127.0.0.1:1"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    assert!(!error.may_have_applied(), "{error:?}");
}
