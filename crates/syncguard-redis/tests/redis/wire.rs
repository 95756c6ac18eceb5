//! The stored formats, byte by byte.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use syncguard_core::{
    ErrorKind, LockId, Owner, ReleaseOutcome,
    backend::{AcquireOutcome, ExtendOutcome, LockBackend, LockRef, Mode, RetireRequest},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, extended, granted, is_locked, key, lock_of, released, ttl},
    proxy::{Flow, Proxy, RespArrays},
    server::RedisServer,
};

use crate::{config, connect, safe};

const ID: &str = "abcdefghijklmnopqrstuv";

async fn started() -> (RedisServer, RedisBackend) {
    let server = safe().start().await.unwrap();
    let backend = connect(&server.url()).await;
    (server, backend)
}

async fn now_ms(server: &RedisServer) -> i64 {
    let time = server.command(&["TIME"]).await.unwrap();
    let (seconds, micros) = time.split_once('\n').unwrap();
    seconds.parse::<i64>().unwrap() * 1_000 + micros.parse::<i64>().unwrap() / 1_000
}

/// Writes a lock as the TypeScript client does.
async fn write_as_typescript(server: &RedisServer, record: &str) {
    for [name, value] in
        [["syncguard:job", record], [&format!("syncguard:id:{ID}"), "syncguard:job"]]
    {
        server.command(&["SET", name, value, "PX", "30000"]).await.unwrap();
    }
    server.command(&["SET", "syncguard:fence:syncguard:job", "5"]).await.unwrap();
}

#[tokio::test]
async fn a_typescript_record_is_honoured_in_any_member_order_and_number_format() {
    let (server, backend) = started().await;
    let now = now_ms(&server).await;
    let (expires, acquired) = (now + 30_000, now - 10);
    let long = format!("{}.{}e+12", expires / 1_000_000_000_000, expires % 1_000_000_000_000);
    for record in [
        format!(
            r#"{{"lockId":"{ID}","expiresAtMs":{expires},"acquiredAtMs":{acquired},"key":"job","fence":"000000000000005"}}"#
        ),
        format!(
            r#"{{"fence":"000000000000005","key":"job","acquiredAtMs":{acquired},"expiresAtMs":{expires},"lockId":"{ID}"}}"#
        ),
        format!(
            r#"{{"lockId":"{ID}","expiresAtMs":{long},"acquiredAtMs":{acquired},"key":"job","fence":"000000000000005"}}"#
        ),
        format!(
            r#"{{"x":{{"lockId":"another","expiresAtMs":1}},"lockId":"{ID}","expiresAtMs":{expires},"acquiredAtMs":{acquired},"key":"job","fence":"000000000000005"}}"#
        ),
    ] {
        write_as_typescript(&server, &record).await;
        let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
        let AcquireOutcome::Contended { holder } = outcome else { panic!("{outcome:?}: {record}") };
        assert_eq!(holder.unwrap().fence.unwrap().number(), 5, "{record}");
        let id = ID.parse().unwrap();
        let found = backend.lookup(&key("job").into()).await.unwrap().unwrap();
        assert_eq!((found.lock_id, found.acquired_at.unix_millis()), (id, acquired), "{record}");
        assert_eq!(backend.lookup(&id.into()).await.unwrap().unwrap().fence.number(), 5);
        let non_holder = LockRef::new("-".repeat(22).parse().unwrap(), key("job"));
        assert!(matches!(backend.release(&non_holder).await.unwrap(), ReleaseOutcome::NotHeld(_)));
        let moved = backend.extend(&id.into(), ttl(LONG)).await.unwrap();
        assert!(matches!(moved, ExtendOutcome::Extended { .. }), "{record}");
        assert_eq!(backend.release(&id.into()).await.unwrap(), ReleaseOutcome::Released);
        assert_eq!(server.command(&["DBSIZE"]).await.unwrap(), "1", "only the counter stays");
    }
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 6);
}

#[tokio::test]
async fn an_extend_keeps_unknown_members() {
    let (server, backend) = started().await;
    let expires = now_ms(&server).await + 30_000;
    for (order, rest) in [
        (
            format!(r#""lockId":"{ID}","expiresAtMs":{expires}"#),
            r#""trace":{"expiresAtMs":1,"tags":["a"]}"#,
        ),
        (
            format!(r#""expiresAtMs":{expires},"lockId":"{ID}""#),
            r#""trace":{"expiresAtMs":1,"tags":["a"]}"#,
        ),
    ] {
        let record =
            format!(r#"{{{order},"acquiredAtMs":7,"key":"job","fence":"000000000000005",{rest}}}"#);
        write_as_typescript(&server, &record).await;
        let id: LockId = ID.parse().unwrap();
        let moved = backend.extend(&id.into(), ttl(LONG)).await.unwrap();
        let ExtendOutcome::Extended { expires_at } = moved else { panic!("{moved:?}") };
        let mut expected: Value = serde_json::from_str(&record).unwrap();
        expected["expiresAtMs"] = json!(expires_at.unix_millis());
        let stored = server.command(&["GET", "syncguard:job"]).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), expected);
    }
}

#[tokio::test]
async fn an_owner_survives_extends_in_both_languages() {
    // The TypeScript client's script does this with the record.
    const EXTEND: &str = "local record = cjson.decode(redis.call('GET', KEYS[1])) \
        record.expiresAtMs = tonumber(ARGV[1]) \
        return redis.call('SET', KEYS[1], cjson.encode(record), 'PX', 90000)";
    let (server, backend) = started().await;
    let request = ask("job", LONG).with_owner(Owner::new("ci-7 \"é\"").ok());
    granted(&backend, &request).await;
    let expires = now_ms(&server).await + 80_000;
    let arguments = ["EVAL", EXTEND, "1", "syncguard:job", &expires.to_string()];
    server.command(&arguments).await.unwrap();
    let found = backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!((found.expires_at.unix_millis(), found.owner), (expires, request.owner.clone()));
    assert!(extended(&backend, &request).await);
    let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(holder.owner, request.owner);
    assert!(released(&backend, &request).await);
}

#[tokio::test]
async fn a_grant_is_stored_in_the_documented_formats() {
    let (server, backend) = started().await;
    let text = "a\"b\\c\u{0}d\",\"fence\":\"9é";
    let owner = Owner::new("web-3 \"blue\"").unwrap();
    let request = ask(text, LONG).with_owner(Some(owner));
    let grant = granted(&backend, &request).await;
    let names = server.command(&["--json", "KEYS", "syncguard:*"]).await.unwrap();
    let names: Vec<String> = serde_json::from_str(&names).unwrap();
    let lock = format!("syncguard:{text}");
    let mut expected = vec![
        lock.clone(),
        format!("syncguard:fence:{lock}"),
        format!("syncguard:id:{}", request.lock_id.as_str()),
    ];
    let mut found = names.clone();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    // A NUL cannot be in an argument of a program, so a script reads the name from the index.
    let read = r"local name = redis.call('GET', KEYS[1]) return {name, redis.call('GET', name),
        redis.call('PTTL', name), redis.call('PTTL', KEYS[1]), redis.call('GET', 'syncguard:fence:' .. name)}";
    let index = format!("syncguard:id:{}", request.lock_id.as_str());
    let values = server.command(&["--json", "EVAL", read, "1", &index]).await.unwrap();
    let values: Vec<Value> = serde_json::from_str(&values).unwrap();
    assert_eq!(values[0], json!(lock), "the index names the lock");
    let record: BTreeMap<String, Value> =
        serde_json::from_str(values[1].as_str().unwrap()).unwrap();
    let expires = grant.expires_at.unix_millis();
    let member = |name: &str| record[name].clone();
    assert_eq!(member("lockId"), json!(request.lock_id.as_str()));
    assert_eq!(member("expiresAtMs"), json!(expires));
    assert_eq!(member("acquiredAtMs"), json!(expires - 60_000));
    assert_eq!(member("key"), json!(text));
    assert_eq!(member("fence"), json!("000000000000001"));
    assert_eq!(member("owner"), json!("web-3 \"blue\""));
    assert_eq!(record.len(), 6);
    for pttl in &values[2..4] {
        assert!(
            (60_000..=61_000).contains(&pttl.as_i64().unwrap()),
            "the ttl and the grace: {pttl}"
        );
    }
    assert_eq!(values[4], json!("1"), "the counter is a plain integer");
    assert!(released(&backend, &request).await);
    assert_eq!(server.command(&["DBSIZE"]).await.unwrap(), "1");
}

#[tokio::test]
async fn without_grace_a_record_is_stored_for_its_ttl() {
    let server = safe().start().await.unwrap();
    let backend = RedisBackend::connect(config(&server.url()).grace(Duration::ZERO)).await.unwrap();
    granted(&backend, &ask("job", LONG)).await;
    let pttl: u64 = server.command(&["PTTL", "syncguard:job"]).await.unwrap().parse().unwrap();
    assert!(pttl <= 60_000, "{pttl}");
    let with_grace = connect(&server.url()).await;
    let outcome = with_grace.acquire(&ask("job", LONG)).await.unwrap();
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { panic!("{outcome:?}") };
    assert!(holder.free_in.unwrap() <= LONG, "a waiter is told of the holder's grace: {holder:?}");
}

#[tokio::test]
async fn a_value_that_is_not_a_record_is_an_error_and_stays_unchanged() {
    let (server, backend) = started().await;
    for garbage in ["", "nonsense", "[]", "null", "{}", r#"{"lockId":"x"}"#] {
        server.command(&["SET", "syncguard:job", garbage]).await.unwrap();
        let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied(), "{garbage}");
        assert_eq!(server.command(&["GET", "syncguard:job"]).await.unwrap(), garbage);
    }
    server.command(&["DEL", "syncguard:job"]).await.unwrap();
    server.command(&["HSET", "syncguard:job", "a", "b"]).await.unwrap();
    error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
}

#[tokio::test]
async fn an_acquire_with_an_invalid_counter_is_refused_before_anything_is_stored() {
    let (server, backend) = started().await;
    for garbage in ["nonsense", "1.5", "-7", "9223372036854775807"] {
        server.command(&["SET", "syncguard:fence:syncguard:job", garbage]).await.unwrap();
        let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied() && !is_locked(&backend, "job").await, "{garbage}");
        let left = server.command(&["GET", "syncguard:fence:syncguard:job"]).await.unwrap();
        assert_eq!(left, garbage);
        assert_eq!(server.command(&["DBSIZE"]).await.unwrap(), "1", "{garbage}");
    }
}

#[tokio::test]
async fn a_fence_may_be_at_least_the_server_time_whatever_the_counter_was() {
    let server = safe().start().await.unwrap();
    let backend = RedisBackend::connect(config(&server.url()).seed_new_counters()).await.unwrap();
    let (exclusive, shared) = (ask("job", LONG), ask("job", LONG).with_mode(Mode::SHARED));
    for request in [exclusive, shared] {
        for counter in [None, Some("7")] {
            match counter {
                Some(counter) => server.command(&["SET", JOB_COUNTER, counter]).await.unwrap(),
                None => server.command(&["DEL", JOB_COUNTER]).await.unwrap(),
            };
            let before = u64::try_from(now_ms(&server).await).unwrap();
            let mut request = request.clone();
            request.lock_id = LockId::mint().unwrap();
            let fence = granted(&backend, &request).await.fence.number();
            assert!(fence >= before, "{fence} {before}");
            let stored = server.command(&["GET", JOB_COUNTER]).await.unwrap();
            assert_eq!(stored, fence.to_string());
            assert_eq!(server.command(&["PTTL", JOB_COUNTER]).await.unwrap(), "-1");
            let lock = LockRef::new(request.lock_id, request.key);
            assert_eq!(backend.release(&lock).await.unwrap(), ReleaseOutcome::Released);
        }
    }
}

/// A counter that is above the clock, because the clock was set back, is kept for longer.
#[tokio::test]
async fn a_counter_may_expire_a_time_after_its_value() {
    let server = safe().start().await.unwrap();
    let config = config(&server.url()).seed_new_counters();
    let day = RetireRequest::MIN_UNUSED_FOR;
    let backend = RedisBackend::connect(config.expire_counters(day)).await.unwrap();
    let now = now_ms(&server).await;
    let day = i64::try_from(day.as_millis()).unwrap();
    for mode in [Mode::Exclusive, Mode::SHARED] {
        for counter in [7, now - 2 * day, now + day / 2] {
            let counter = counter.to_string();
            server.command(&["SET", JOB_COUNTER, &counter, "PX", "100000"]).await.unwrap();
            let request = ask("job", LONG).with_mode(mode);
            let fence = granted(&backend, &request).await.fence.number();
            let expires: i64 =
                server.command(&["PEXPIRETIME", JOB_COUNTER]).await.unwrap().parse().unwrap();
            let late = expires - i64::try_from(fence).unwrap() - day;
            assert!((0..=1_000).contains(&late), "{mode:?} {counter} {late}");
            let lock = LockRef::new(request.lock_id, request.key);
            assert_eq!(backend.release(&lock).await.unwrap(), ReleaseOutcome::Released);
        }
    }
}

const JOB_COUNTER: &str = "syncguard:fence:syncguard:job";

#[tokio::test]
async fn each_operation_is_one_round_trip_once_the_scripts_are_known() {
    let server = safe().start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let backend = connect(&server.url_through(proxy.address())).await;
    let warm_up = ask("warm-up", LONG);
    granted(&backend, &warm_up).await;
    assert!(extended(&backend, &warm_up).await && released(&backend, &warm_up).await);
    backend.abandon(warm_up.lock_id, &warm_up.key).await.unwrap();
    let commands = proxy.tally(Flow::Requests, RespArrays::default);
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert_eq!(commands.total(), 1, "acquire");
    granted(&backend, &request).await;
    assert_eq!(commands.total(), 2, "acquire again");
    assert!(extended(&backend, &request).await);
    assert_eq!(commands.total(), 3, "extend");
    backend.release(&lock_of(&request)).await.unwrap();
    assert_eq!(commands.total(), 4, "release");
    backend.abandon(request.lock_id, &request.key).await.unwrap();
    assert_eq!(commands.total(), 5, "abandon");
}
