//! A server that stops, dies, runs out of memory, or whose clock jumps.

use std::time::Duration;

use syncguard_core::{ErrorKind, LockBackend, SyncGuard};
use syncguard_tests::{
    asking::{
        LONG, ask, error_of, eventually, extended, granted, is_contended, is_locked, key, lock_of,
        released, ttl,
    },
    clock::{ClockShim, Jump},
    heard::Heard,
};

use crate::{connect, safe};

#[tokio::test]
async fn with_a_log_no_fence_goes_back_over_20_kills() {
    // Synced every second, the log may be two seconds behind what was answered.
    let server = safe().setting("appendfsync", "always").start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut last = 0;
    for round in 0..20 {
        for _ in 0..5 {
            let request = ask("job", LONG);
            let fence = granted(&backend, &request).await.fence.number();
            assert!(fence > last, "round {round}: {fence} after {last}");
            last = fence;
            assert!(released(&backend, &request).await);
        }
        server.kill().unwrap();
        server.restart().await.unwrap();
        eventually("the client is connected again", async || {
            backend.is_locked(&key("job")).await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn a_holder_whose_server_stood_still_past_the_ttl_has_lost_the_lock() {
    let server = safe().start().await.unwrap();
    let (mine, theirs) =
        (SyncGuard::new(connect(&server.url()).await), connect(&server.url()).await);
    let guard = mine.lock("job").ttl(Duration::from_millis(500)).acquire().await.unwrap();
    let fence = guard.fence().unwrap();
    server.pause().unwrap();
    guard.lost().await;
    assert!(!guard.is_valid(), "it knows by its own clock");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    server.resume().unwrap();
    let next = granted(&theirs, &ask("job", LONG)).await.fence;
    assert!(next > fence, "{next} after {fence}");
    guard.release().await.ok();
    assert!(is_locked(&theirs, "job").await, "its release leaves the new lock alone");
}

#[tokio::test]
async fn a_server_without_memory_is_unavailable_and_still_releases() {
    let server = safe().start().await.unwrap();
    let backend = connect(&server.url()).await;
    let (request, called_off) = (ask("job", LONG), ask("called-off", LONG));
    granted(&backend, &request).await;
    granted(&backend, &called_off).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let refused = server.command(&["SET", "x", "y"]).await.unwrap_err().to_string();
    assert!(refused.contains("OOM"), "{refused}");
    let acquire = backend.acquire(&ask("other", LONG)).await;
    let extend = backend.extend(&lock_of(&request), ttl(LONG)).await;
    for error in [
        error_of(acquire, ErrorKind::ServiceUnavailable),
        error_of(extend, ErrorKind::ServiceUnavailable),
    ] {
        assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    }
    assert!(released(&backend, &request).await, "a release needs no memory");
    backend.abandon(called_off.lock_id, &called_off.key).await.unwrap();
    assert!(!is_locked(&backend, "called-off").await, "nor does it take any to call off a grant");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(granted(&backend, &ask("other", LONG)).await.fence.number(), 1);
}

#[tokio::test]
async fn a_clock_that_jumps_past_the_expiry_is_told_and_the_extend_finds_nothing() {
    let (heard, _hearing) = Heard::listen("jump_ms");
    let clock = ClockShim::build().await.unwrap();
    let server = safe().envs(clock.env()).start().await.unwrap();
    let (mine, theirs) = (connect(&server.url()).await, connect(&server.url()).await);
    let request = ask("job", Duration::from_secs(30));
    granted(&mine, &request).await;
    assert!(is_contended(&theirs, "job").await);
    clock.step(Duration::from_secs(32), Jump::Forward).unwrap();
    assert_eq!(granted(&theirs, &ask("job", LONG)).await.fence.number(), 2, "granted to two");
    assert!(!extended(&mine, &request).await, "the first holder is told");
    assert_eq!(heard.count(), 0, "neither has had two replies with a time yet");
    granted(&mine, &ask("other", LONG)).await;
    assert_eq!(heard.count(), 1, "the jump is reported");
}

#[tokio::test]
async fn an_extend_that_succeeds_after_a_jump_proves_that_nobody_else_had_the_lock() {
    let (heard, _hearing) = Heard::listen("jump_ms");
    let clock = ClockShim::build().await.unwrap();
    let server = safe().envs(clock.env()).start().await.unwrap();
    let (mine, theirs) = (connect(&server.url()).await, connect(&server.url()).await);
    let request = ask("job", Duration::from_secs(30));
    granted(&mine, &request).await;
    clock.step(Duration::from_secs(20), Jump::Forward).unwrap();
    assert!(extended(&mine, &request).await);
    assert_eq!(heard.count(), 1, "the jump is reported");
    assert!(is_contended(&theirs, "job").await);
    assert!(released(&mine, &request).await);
    assert_eq!(granted(&theirs, &ask("job", LONG)).await.fence.number(), 2, "nobody came between");
}
