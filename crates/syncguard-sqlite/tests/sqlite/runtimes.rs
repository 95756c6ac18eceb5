//! Callers on several runtimes, and outside of any.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use syncguard_core::backend::LockBackend;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::timeout,
};

use crate::{Scratch, acquire_and_release, granted, key, release, request};

/// Far longer than any operation takes.
const TIMEOUT: Duration = Duration::from_secs(10);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn poll_once<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

#[test]
fn a_runtime_that_is_no_longer_driven_blocks_no_other() {
    let scratch = Scratch::new();
    let (idle, busy) = (runtime(), runtime());
    let backend = idle.block_on(scratch.open());
    let mut left_pending = 0;
    // Each time, the idle runtime stops a little later, so that it stops at every step.
    for turns in 0..40 {
        let wanted = request(&format!("idle-{turns}"));
        let mut acquiring = pin!(backend.acquire(&wanted));
        idle.block_on(async {
            // On a busy machine, the backend's thread may finish within the poll.
            left_pending += usize::from(poll_once(&mut acquiring).await.is_pending());
            for _ in 0..turns {
                thread::sleep(Duration::from_micros(50));
                yield_now().await;
            }
        });
        let passed =
            busy.block_on(async { timeout(TIMEOUT, acquire_and_release(&backend, "key")).await });
        passed.expect("the idle runtime keeps the connections");
    }
    assert_ne!(left_pending, 0, "no acquire was left in flight");
}

#[test]
fn a_waiter_on_a_runtime_that_is_no_longer_driven_blocks_no_other_waiter() {
    let scratch = Scratch::new();
    let (idle, busy) = (runtime(), runtime());
    let backend = idle.block_on(scratch.open());
    let held = request("key");
    idle.block_on(granted(&backend, &held));
    let wanted = key("key");
    let mut idle_waiter = pin!(backend.released(&wanted));
    assert!(idle.block_on(poll_once(&mut idle_waiter)).is_pending());
    busy.block_on(async {
        let mut waiter = pin!(backend.released(&wanted));
        assert!(poll_once(&mut waiter).await.is_pending());
        release(&backend, &held).await;
        timeout(TIMEOUT, waiter).await.expect("the idle waiter keeps the watcher");
    });
    idle.block_on(async { timeout(TIMEOUT, idle_waiter).await.unwrap() });
}

#[test]
fn a_grant_of_a_runtime_that_ended_is_released_on_another_one() {
    let scratch = Scratch::new();
    let first = runtime();
    let backend = first.block_on(scratch.open());
    let held = request("key");
    first.block_on(granted(&backend, &held));
    drop(first);
    let second = runtime();
    second.block_on(async {
        timeout(TIMEOUT, release(&backend, &held)).await.unwrap();
        assert!(!backend.is_locked(&held.key).await.unwrap());
    });
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn no_operation_needs_a_runtime_of_the_caller() {
    let scratch = Scratch::new();
    let backend = block_on(scratch.open());
    assert_eq!(block_on(acquire_and_release(&backend, "key")), 1);
    let held = request("key");
    block_on(granted(&backend, &held));
    let wanted = key("key");
    let other = backend.clone();
    let waiting = thread::spawn(move || block_on(other.released(&wanted)));
    block_on(release(&backend, &held));
    waiting.join().unwrap();
}
