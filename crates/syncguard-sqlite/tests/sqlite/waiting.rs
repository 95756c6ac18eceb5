use std::{future::poll_fn, num::NonZeroU32, pin::pin, task::Poll, time::Duration};

use syncguard_core::backend::{LockBackend, Mode};
use tokio::time::timeout;

use crate::{Scratch, acquire_and_release, granted, key, release, request};

/// Much longer than any wake-up takes.
const WAKE_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Long enough for a watcher to poll many times.
const MANY_POLLS: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_release_through_another_instance_wakes_the_waiter() {
    let scratch = Scratch::new();
    let (backend, other) = (scratch.open().await, scratch.open().await);
    let held = request("key");
    granted(&other, &held).await;
    let waiting = tokio::spawn(async move { backend.released(&key("key")).await });
    tokio::time::sleep(MANY_POLLS).await;
    assert!(!waiting.is_finished(), "nothing was released");
    release(&other, &held).await;
    timeout(WAKE_UP_TIMEOUT, waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_release_through_the_same_instance_wakes_the_waiter() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = request("key");
    granted(&backend, &held).await;
    let key = key("key");
    let mut released = pin!(backend.released(&key));
    assert!(!backend.is_subscribed(&key), "no one waits");
    assert!(timeout(MANY_POLLS, released.as_mut()).await.is_err());
    assert!(backend.is_subscribed(&key));
    release(&backend, &held).await;
    timeout(WAKE_UP_TIMEOUT, released).await.unwrap();
}

#[tokio::test]
async fn a_wait_that_is_not_polled_blocks_no_request_and_misses_no_release() {
    let scratch = Scratch::new();
    let (backend, other) = (scratch.open().await, scratch.open().await);
    let held = request("key");
    granted(&other, &held).await;
    let key = key("key");
    let mut released = pin!(backend.released(&key));
    let first = poll_fn(|context| Poll::Ready(released.as_mut().poll(context))).await;
    assert!(first.is_pending());
    timeout(WAKE_UP_TIMEOUT, acquire_and_release(&backend, "another")).await.unwrap();
    release(&other, &held).await;
    timeout(WAKE_UP_TIMEOUT, acquire_and_release(&backend, "another")).await.unwrap();
    timeout(WAKE_UP_TIMEOUT, released).await.unwrap();
}

#[tokio::test]
async fn changes_of_other_keys_wake_no_waiter() {
    let scratch = Scratch::new();
    let (backend, other) = (scratch.open().await, scratch.open().await);
    granted(&other, &request("key")).await;
    let key = key("key");
    let mut released = pin!(backend.released(&key));
    for _ in 0..20 {
        acquire_and_release(&other, "another").await;
        assert!(timeout(Duration::from_millis(10), released.as_mut()).await.is_err());
    }
}

#[tokio::test]
async fn waiting_for_a_free_key_resolves_immediately() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    timeout(WAKE_UP_TIMEOUT, backend.released(&key("key"))).await.unwrap();
}

#[tokio::test]
async fn a_waiter_survives_a_database_that_cannot_be_read() {
    let scratch = Scratch::new();
    let (backend, other) = (scratch.open().await, scratch.open().await);
    let held = request("key");
    granted(&other, &held).await;
    let mut foreign = scratch.foreign().await;
    foreign.run("ALTER TABLE syncguard_locks RENAME TO hidden").await;
    backend.is_locked(&key("key")).await.unwrap_err();
    let key = key("key");
    let mut released = pin!(backend.released(&key));
    assert!(timeout(MANY_POLLS * 3, released.as_mut()).await.is_err());
    foreign.run("ALTER TABLE hidden RENAME TO syncguard_locks").await;
    assert!(timeout(MANY_POLLS * 3, released.as_mut()).await.is_err(), "it is still held");
    release(&other, &held).await;
    timeout(WAKE_UP_TIMEOUT, released).await.unwrap();
}

#[test]
fn a_waiter_survives_the_runtime_on_which_its_watcher_was_started() {
    let scratch = Scratch::new();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let backend = first.block_on(scratch.open());
    let held = request("key");
    first.block_on(granted(&backend, &held));
    let starting = first.spawn({
        let backend = backend.clone();
        async move { backend.released(&key("key")).await }
    });
    first.block_on(async { tokio::time::sleep(MANY_POLLS).await });
    let joining = second.spawn({
        let backend = backend.clone();
        async move { backend.released(&key("key")).await }
    });
    second.block_on(async { tokio::time::sleep(MANY_POLLS).await });
    first.shutdown_background();
    drop(starting);
    second.block_on(async {
        release(&backend, &held).await;
        timeout(WAKE_UP_TIMEOUT, joining).await.unwrap().unwrap();
    });
}

/// A waiter reads the key only every few milliseconds. What happens in between is committed here at
/// once.
#[tokio::test]
async fn a_waiter_is_woken_if_a_key_is_shared_anew_between_two_reads() {
    const HEAD: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    for mode in [Mode::Exclusive, Mode::SHARED] {
        let held = request("key").with_mode(mode);
        granted(&backend, &held).await;
        let key = key("key");
        let mut released = pin!(backend.released(&key));
        assert!(timeout(MANY_POLLS, released.as_mut()).await.is_err(), "{mode}");
        let sql = format!(
            "BEGIN IMMEDIATE; DELETE FROM syncguard_holders;
            UPDATE syncguard_locks SET lock_id = '{HEAD}', fence = fence + 1;
            INSERT INTO syncguard_holders SELECT 'BBBBBBBBBBBBBBBBBBBBBA', '{HEAD}', NULL, fence,
                NULL, acquired_at_ms, expires_at_ms FROM syncguard_locks; COMMIT"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut foreign.0).await.unwrap();
        timeout(WAKE_UP_TIMEOUT, released).await.expect("a reader could be admitted");
        backend.force_release(&key).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_joins_or_leaves_others_wakes_no_waiter() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let reader = || request("key").with_mode(Mode::SHARED);
    let (first, last) = (reader(), reader());
    granted(&backend, &first).await;
    granted(&backend, &last).await;
    let key = key("key");
    let mut released = pin!(backend.released(&key));
    assert!(timeout(MANY_POLLS, released.as_mut()).await.is_err());
    release(&backend, &first).await;
    granted(&backend, &reader()).await;
    assert!(timeout(MANY_POLLS, released.as_mut()).await.is_err(), "a writer could not be granted");
}

#[tokio::test]
async fn a_permit_that_was_taken_and_freed_again_during_a_wait_wakes_the_waiter() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let permit = || request("key").with_mode(Mode::Shared { permits: NonZeroU32::new(2) });
    granted(&backend, &permit()).await;
    let key = key("key");
    let mut released = pin!(backend.released(&key));
    assert!(timeout(MANY_POLLS, released.as_mut()).await.is_err());
    let second = permit();
    granted(&backend, &second).await;
    assert!(timeout(MANY_POLLS, released.as_mut()).await.is_err());
    release(&backend, &second).await;
    timeout(WAKE_UP_TIMEOUT, released).await.expect("a permit is free");
}
