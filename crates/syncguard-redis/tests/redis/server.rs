//! A server that stops, dies, runs out of memory, or whose clock jumps.

use std::time::Duration;

use syncguard_core::{ErrorKind, LockManager, backend::LockBackend};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    clock::{ClockShim, Jump},
    log_capture::EventCounter,
    operations::{
        LONG, ask, error_of, eventually, granted, is_contended, is_locked, key, lock_of, released,
        ttl,
    },
    server::RedisServer,
};

use crate::{connect, safe};

#[tokio::test]
async fn with_a_log_no_fence_goes_back_over_20_kills() {
    // With a log that is synced every second, the last two seconds of answered writes may be lost.
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
async fn a_holder_whose_server_stalled_past_the_ttl_has_lost_the_lock() {
    let server = safe().start().await.unwrap();
    let (mine, theirs) =
        (LockManager::new(connect(&server.url()).await), connect(&server.url()).await);
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
async fn a_server_out_of_memory_is_unavailable_and_still_releases() {
    let server = safe().start().await.unwrap();
    let backend = connect(&server.url()).await;
    let (request, abandoned) = (ask("job", LONG), ask("called-off", LONG));
    granted(&backend, &request).await;
    granted(&backend, &abandoned).await;
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
    backend.abandon(abandoned.lock_id, &abandoned.key).await.unwrap();
    assert!(!is_locked(&backend, "called-off").await, "nor does it take any to call off a grant");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(granted(&backend, &ask("other", LONG)).await.fence.number(), 1);
}

/// Starts a server with its own clock, and two clients.
async fn with_a_clock() -> (RedisServer, ClockShim, LockManager, RedisBackend) {
    let clock = ClockShim::build().await.unwrap();
    let server = safe().envs(clock.env()).start().await.unwrap();
    let mine = LockManager::new(connect(&server.url()).await);
    let theirs = connect(&server.url()).await;
    (server, clock, mine, theirs)
}

/// A guard that does not renew would not detect the jump by itself.
#[tokio::test]
async fn a_guard_is_lost_when_any_reply_shows_that_the_clock_has_jumped_past_its_expiry() {
    let (heard, _hearing) = EventCounter::install("jump_ms");
    let (_server, clock, mine, theirs) = with_a_clock().await;
    let guard = mine.lock("job").ttl(ttl(LONG)).acquire().await.unwrap();
    assert!(is_contended(&theirs, "job").await);
    clock.step(LONG + Duration::from_secs(2), Jump::Forward).unwrap();
    assert_eq!(granted(&theirs, &ask("job", LONG)).await.fence.number(), 2, "granted to two");
    assert!(guard.is_valid() && heard.count() == 0, "no answer has shown it yet");
    let other = mine.lock("other").ttl(ttl(LONG)).acquire().await.unwrap();
    assert_eq!(heard.count(), 1, "the jump is reported");
    assert!(!guard.is_valid() && guard.fence().is_err());
    guard.lost().await;
    assert!(other.is_valid(), "what was granted since is not affected");
    assert!(mine.lock("third").acquire().await.unwrap().is_valid());
}

#[tokio::test]
async fn a_guard_ends_earlier_after_a_jump_that_does_not_reach_its_expiry() {
    let (_server, clock, mine, theirs) = with_a_clock().await;
    let guard = mine.lock("job").ttl(ttl(LONG)).acquire().await.unwrap();
    clock.step(LONG / 2, Jump::Forward).unwrap();
    let other = mine.lock("other").ttl(ttl(LONG)).acquire().await.unwrap();
    assert!(guard.is_valid() && is_contended(&theirs, "job").await);
    assert!(guard.remaining() < LONG / 2, "{:?}", guard.remaining());
    assert!(other.remaining() > LONG / 2, "{:?}", other.remaining());
    guard.extend(ttl(LONG)).await.unwrap();
    assert!(guard.remaining() > LONG / 2, "{:?}", guard.remaining());
}

#[tokio::test]
async fn a_backward_jump_ends_no_guard() {
    let (_server, clock, mine, theirs) = with_a_clock().await;
    let guard = mine.lock("job").ttl(ttl(LONG)).acquire().await.unwrap();
    clock.step(2 * LONG, Jump::Back).unwrap();
    let other = mine.lock("other").ttl(ttl(LONG)).acquire().await.unwrap();
    assert!(guard.is_valid() && other.is_valid());
    assert!(guard.remaining() > LONG / 2 && other.remaining() > LONG / 2);
    assert!(is_contended(&theirs, "job").await);
}

/// A record that still names the id proves that no other id was granted the key in the meantime.
#[tokio::test]
async fn an_extend_that_succeeds_after_a_jump_keeps_the_lock() {
    let (_server, clock, mine, theirs) = with_a_clock().await;
    let guard = mine.lock("job").ttl(ttl(LONG)).acquire().await.unwrap();
    clock.step(LONG / 2, Jump::Forward).unwrap();
    guard.extend(ttl(LONG)).await.unwrap();
    assert!(guard.is_valid() && is_contended(&theirs, "job").await);
    guard.release().await.unwrap();
    assert_eq!(granted(&theirs, &ask("job", LONG)).await.fence.number(), 2, "nobody came between");
}
