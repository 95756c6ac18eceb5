//! Values of another type under each name of a lock, and indexes with a wrong target.

use std::fmt::Debug;

use syncguard_core::{
    Error, ErrorKind, ReleaseOutcome,
    backend::{AcquireRequest, ExtendOutcome, ListRequest, LockBackend},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, granted, key, lock_of, ttl},
    server::RedisServer,
    typescript::RedisPeer,
};

use crate::{connect, safe};

/// The id in the records.
const ID: &str = "ABCDEFGHIJKLMNOPQRSTUV";
const LOCK: &str = "syncguard:job";
const COUNTER: &str = "syncguard:fence:syncguard:job";
const INDEX: &str = "syncguard:id:ABCDEFGHIJKLMNOPQRSTUV";

/// Stores a record, if one is given, and returns a digest of the values under the names, of any
/// type.
const DIGEST: &str = "\
    if #ARGV > 0 then redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], 5) \
    redis.call('SET', KEYS[3], KEYS[1]) end \
    local digest = '' for i = 1, #KEYS do \
    digest = digest .. redis.sha1hex(redis.call('DUMP', KEYS[i]) or '') end return digest";

/// A backend, and a direct connection that damages what it stores.
struct Bench {
    backend: RedisBackend,
    server: RedisPeer,
    own: AcquireRequest,
    _server: RedisServer,
}

impl Bench {
    async fn start() -> Self {
        let server = safe().setting("appendonly", "no").start().await.unwrap();
        let backend = connect(&server.url()).await;
        granted(&backend, &ask("good", 60 * LONG)).await;
        let own = AcquireRequest::new(key("job"), ID.parse().unwrap(), ttl(LONG));
        Self {
            backend,
            server: RedisPeer::connect(server.address(), "syncguard").await,
            own,
            _server: server,
        }
    }

    /// Stores a value of another type under one name, and valid values under the others.
    async fn put(&mut self, name: &str, words: &[&str]) -> String {
        self.reset("{}").await;
        self.server.call(&["DEL", name]).await.unwrap();
        let words: Vec<_> =
            words.iter().map(|&word| if word.is_empty() { name } else { word }).collect();
        self.server.call(&words).await.unwrap();
        self.digest().await
    }

    /// Stores a record under the lock's name, a valid counter and a valid index, and returns their
    /// digest.
    async fn reset(&mut self, text: &str) -> String {
        let words = ["EVAL", DIGEST, "3", LOCK, COUNTER, INDEX, text];
        self.server.call(&words).await.unwrap().unwrap()
    }

    async fn digest(&mut self) -> String {
        self.server.call(&["EVAL", DIGEST, "3", LOCK, COUNTER, INDEX]).await.unwrap().unwrap()
    }
}

/// Asserts that an error reports that the record cannot be read and that nothing was applied.
#[track_caller]
fn assert_unreadable(text: &str, error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Internal, "{text}: {error:?}");
    assert!(
        !error.may_have_applied() && error.to_string().contains("cannot be read"),
        "{text}: {error}"
    );
}

/// Commands that store a value of another type under a name.
const OTHER_TYPES: [&[&str]; 6] = [
    &["RPUSH", "", "a", "b"],
    &["SADD", "", "a"],
    &["ZADD", "", "1", "a"],
    &["HSET", "", "lockId", ID],
    &["XADD", "", "1-1", "a", "b"],
    &["GEOADD", "", "1", "2", "a"],
];

/// Asserts that an operation failed with a typed error that reports that nothing was applied.
#[track_caller]
fn assert_internal<T: Debug>(outcome: Result<T, Error>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    assert!(!error.may_have_applied() && !error.is_retryable(), "{error:?}");
}

/// Asserts that a forced release failed with the error that reports what it cleared.
#[track_caller]
fn assert_cleared<T: Debug>(outcome: Result<T, Error>) {
    let error = error_of(outcome, ErrorKind::Internal);
    assert!(error.has_applied(), "{error:?}");
}

#[tokio::test]
async fn another_type_under_a_lock_name_is_reported_kept_and_cleared_by_a_forced_release() {
    let mut bench = Bench::start().await;
    for words in OTHER_TYPES {
        let before = bench.put(LOCK, words).await;
        let (backend, own) = (&bench.backend, &bench.own);
        assert_internal(backend.acquire(own).await);
        for lock in [lock_of(own), own.lock_id.into()] {
            assert_internal(backend.extend(&lock, ttl(LONG)).await);
            assert_internal(backend.release(&lock).await);
        }
        assert_internal(backend.lookup(&key("job").into()).await);
        assert_internal(backend.lookup(&own.lock_id.into()).await);
        assert_internal(backend.is_locked(&key("job")).await);
        assert_eq!(backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 1);
        assert_eq!(bench.digest().await, before, "{words:?}");
        bench.backend.abandon(bench.own.lock_id, &bench.own.key).await.unwrap();
        assert_eq!(bench.server.call(&["EXISTS", LOCK]).await.unwrap().unwrap(), "1", "{words:?}");
        assert_cleared(bench.backend.force_release(&key("job")).await);
        let refused = bench.backend.acquire(&bench.own).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Aborted, "the id was abandoned: {refused:?}");
        granted(&bench.backend, &ask("job", LONG)).await;
    }
}

#[tokio::test]
async fn another_type_under_a_counter_name_is_reported_and_kept() {
    let mut bench = Bench::start().await;
    for words in OTHER_TYPES {
        let before = bench.put(COUNTER, words).await;
        bench.server.call(&["DEL", LOCK, INDEX]).await.unwrap();
        assert_internal(bench.backend.acquire(&bench.own).await);
        assert_eq!(bench.server.call(&["EXISTS", LOCK, INDEX]).await.unwrap().unwrap(), "0");
        bench.server.call(&["SET", LOCK, "{}"]).await.unwrap();
        bench.server.call(&["SET", INDEX, LOCK]).await.unwrap();
        assert_eq!(bench.digest().await, before, "{words:?}");
        assert_cleared(bench.backend.force_release(&key("job")).await);
        assert_eq!(bench.backend.lookup(&key("job").into()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn another_type_under_an_id_name_is_reported_and_uses_no_fence() {
    let mut bench = Bench::start().await;
    for words in OTHER_TYPES {
        bench.put(INDEX, words).await;
        bench.server.call(&["DEL", LOCK]).await.unwrap();
        let before = bench.digest().await;
        let (backend, own) = (&bench.backend, &bench.own);
        assert_internal(backend.acquire(own).await);
        for lock in [lock_of(own), own.lock_id.into()] {
            assert_internal(backend.extend(&lock, ttl(LONG)).await);
            assert_internal(backend.release(&lock).await);
        }
        assert_internal(backend.lookup(&own.lock_id.into()).await);
        assert_eq!(bench.digest().await, before, "{words:?}");
        // No other id is affected, and the tombstone of the abandoned id replaces the value.
        granted(&bench.backend, &ask("job", LONG)).await;
        bench.backend.abandon(bench.own.lock_id, &bench.own.key).await.unwrap();
        assert_eq!(bench.server.call(&["GET", INDEX]).await.unwrap().as_deref(), Some(""));
        bench.backend.force_release(&key("job")).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_index_with_a_wrong_target_finds_no_lock() {
    let mut bench = Bench::start().await;
    for target in
        ["syncguard:nothing", "syncguard:good", COUNTER, INDEX, "", "*", "\0", "syncguard:"]
    {
        bench.reset(&format!(r#"{{"lockId":"{ID}"}}"#)).await;
        bench.server.call(&["SET", INDEX, target]).await.unwrap();
        let before = bench.digest().await;
        let id = bench.own.lock_id;
        for outcome in [
            bench.backend.lookup(&id.into()).await.map(|found| found.is_none()),
            bench.backend.release(&id.into()).await.map(|end| end != ReleaseOutcome::Released),
            bench
                .backend
                .extend(&id.into(), ttl(LONG))
                .await
                .map(|end| matches!(end, ExtendOutcome::NotHeld(_))),
        ] {
            // A value that is not a record, such as a counter, cannot be read.
            match outcome {
                Ok(nothing) => assert!(nothing, "{target}"),
                Err(error) => assert_unreadable(target, &error),
            }
        }
        assert_eq!(bench.backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 1);
        assert_eq!(bench.digest().await, before, "{target}");
    }
}
