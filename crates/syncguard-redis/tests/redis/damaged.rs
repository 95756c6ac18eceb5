//! Records that cannot be read, and values under a lock's name that are not records.

use syncguard_core::{
    ErrorKind,
    backend::{ListRequest, LockBackend},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, granted, key, released, ttl},
    server::RedisServer,
};

use crate::{connect, safe};

const ID: &str = "ABCDEFGHIJKLMNOPQRSTUV";

async fn started() -> (RedisServer, RedisBackend) {
    let server = safe().start().await.unwrap();
    let backend = connect(&server.url()).await;
    (server, backend)
}

/// Returns a record with this expiry, in the order in which the scripts write the members and in
/// another order.
fn records(expiry: &str) -> [String; 2] {
    let rest = r#""acquiredAtMs":1,"fence":"000000000000001","key":"job""#;
    [
        format!(r#"{{"lockId":"{ID}","expiresAtMs":{expiry},{rest}}}"#),
        format!(r#"{{{rest},"expiresAtMs":{expiry},"lockId":"{ID}"}}"#),
    ]
}

/// Lua's decoder reads values that `JSON.parse` rejects, as a number that compares with no other.
#[tokio::test]
async fn a_record_whose_expiry_is_not_a_finite_whole_number_is_never_replaced_by_a_grant() {
    let (server, backend) = started().await;
    for expiry in [
        "NaN",
        "-NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "-inf",
        "1e999",
        "-1e999",
        "0x10",
        "-0x1p3",
        "1.5",
        "-0.5",
        r#""1""#,
        r#""nan""#,
        r#""0x10""#,
        r#""""#,
        "null",
        "true",
        "[]",
        "{}",
    ] {
        for record in records(expiry) {
            server.command(&["SET", "syncguard:job", &record]).await.unwrap();
            let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
            assert!(!error.may_have_applied() && !error.is_retryable(), "{record}: {error:?}");
            let mut held = ask("job", LONG);
            held.lock_id = ID.parse().unwrap();
            let lock = syncguard_testkit::operations::lock_of(&held);
            assert!(backend.extend(&lock, ttl(LONG)).await.is_err(), "{record}");
            error_of(backend.lookup(&key("job").into()).await, ErrorKind::Internal);
            let left = server.command(&["GET", "syncguard:job"]).await.unwrap();
            assert_eq!(left, record, "nothing was written");
        }
    }
    assert_eq!(server.command(&["EXISTS", "syncguard:fence:syncguard:job"]).await.unwrap(), "0");
}

/// The beginning by itself looks like that of an expired record.
#[tokio::test]
async fn a_truncated_expired_record_is_never_replaced_by_a_grant() {
    let (server, backend) = started().await;
    let [record, _] = records("1");
    for broken in [&record[..record.len() - 1], &record[..60], &format!("{record}x")] {
        server.command(&["SET", "syncguard:job", broken]).await.unwrap();
        error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert_eq!(server.command(&["GET", "syncguard:job"]).await.unwrap(), broken);
    }
    for expiry in ["1", "-1", "0", "1.0e3"] {
        for over in records(expiry) {
            server.command(&["SET", "syncguard:job", &over]).await.unwrap();
            let request = ask("job", LONG);
            granted(&backend, &request).await;
            assert!(released(&backend, &request).await);
        }
    }
}

#[tokio::test]
async fn a_value_that_is_not_a_record_is_reported_by_lookup_and_skipped_by_list() {
    let (server, backend) = started().await;
    granted(&backend, &ask("good", LONG)).await;
    for other in [["RPUSH", "syncguard:job", "a"].as_slice(), &["HSET", "syncguard:job", "a", "b"]]
    {
        server.command(other).await.unwrap();
        for answer in [
            backend.lookup(&key("job").into()).await.map(drop),
            backend.is_locked(&key("job")).await.map(drop),
        ] {
            let error = error_of(answer, ErrorKind::Internal);
            assert!(error.to_string().contains("cannot be read"), "{error}");
        }
        assert_eq!(backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 1);
        server.command(&["DEL", "syncguard:job"]).await.unwrap();
    }
}

#[tokio::test]
async fn a_forced_release_clears_an_unreadable_record_and_reports_it() {
    let (server, backend) = started().await;
    let [record, _] = records("NaN");
    for damage in [
        ["RPUSH", "syncguard:job", "a"].as_slice(),
        &["HSET", "syncguard:job", "a", "b"],
        &["SET", "syncguard:job", "nonsense"],
        &["SET", "syncguard:job", &record],
    ] {
        server.command(damage).await.unwrap();
        let error = error_of(backend.force_release(&key("job")).await, ErrorKind::Internal);
        assert!(error.has_applied(), "{damage:?}: {error}");
        assert!(error.to_string().contains("it was cleared"), "{damage:?}: {error}");
        assert_eq!(backend.force_release(&key("job")).await.unwrap(), None, "{damage:?}");
        let request = ask("job", LONG);
        granted(&backend, &request).await;
        assert!(released(&backend, &request).await);
    }
}
